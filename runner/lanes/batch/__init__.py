"""The Batch API: requests in files, collected when the service is done."""
