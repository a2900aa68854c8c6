"""Which proxy is used: NO_PROXY as curl reads it, and where a secret may not go."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import ServiceConfig
from runner.errors import ConfigError
from runner.service.proxy import bypasses_proxy, check_clear_text, find_proxy
from runner.types import Secret


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield


def service(**section: Any) -> ServiceConfig:
    return ServiceConfig.model_validate({"base_url": "https://judge.example/v1", **section})


# host, port, NO_PROXY, direct? curl 7.88 agrees but for the last group, which it does not know.
MATCHES = [
    ("judge.example", 443, "", False),
    ("judge.example", 443, "*", True),
    ("judge.example", 443, "judge.example", True),
    ("judge.example", 443, "JUDGE.Example", True),
    ("Judge.EXAMPLE", 443, "judge.example.", True),
    ("judge.example.", 443, "judge.example", True),
    ("eu.judge.example", 443, "judge.example", True),
    ("eu.judge.example", 443, ".judge.example", True),
    ("judge.example", 443, ".judge.example", True),
    ("notjudge.example", 443, "judge.example,.judge.example,*.judge.example", False),
    ("judge.example.org", 443, "judge.example", False),
    ("judge.example", 443, "a.org, b.org ,\tjudge.example", True),
    ("judge.example", 443, "judge.example:8443", False),
    ("judge.example", 443, ".", False),
    ("10.1.2.3", 80, "10.0.0.0/8", True),
    ("10.1.2.3", 80, "10.1.2.0/24,x.org", True),
    ("10.1.2.3", 80, "10.1.2.9/24", True),
    ("10.1.2.3", 80, "10.1.2.3/32", True),
    ("10.1.2.3", 80, "10.1.2.3", True),
    ("10.1.2.3", 80, "10.1.2.4/32", False),
    ("10.1.2.3", 80, "11.0.0.0/8", False),
    ("10.1.2.3", 80, "2.3,.2.3,1.2.3", False),
    ("10.1.2.3", 81, "10.1.2.3:80", False),
    ("10.1.2.3", 80, "10.0.0.0/33,10.0.0.0/x,/8,10/8", False),
    ("fd00::1", 80, "fd00::1", True),
    ("fd00::1", 80, "FD00:0::0:1", True),
    ("fd00::1", 80, "fe80::/10,10.0.0.0/8", False),
    ("10.1.2.3", 80, "judge.example,fd00::/8", False),
    ("judge.example", 443, "10.0.0.0/8,fd00::/8", False),
    # ports, stars inside an entry, ranges of IPv6
    ("judge.example", 443, "a.org,*", True),
    ("eu.judge.example", 443, "*.judge.example", True),
    ("judge.example", 443, "*.judge.example", True),
    ("judge.example", 443, "a.org judge.example", True),
    ("judge.example", 443, ",,judge.example,,", True),
    ("judge.example", 8443, "judge.example:8443", True),
    ("10.1.2.3", 80, "10.1.2.3:80", True),
    ("10.1.2.3", 80, "10.1.*", True),
    ("10.1.2.3", 80, "*.2.3", True),
    ("fd00::1", 80, "fd00::/8", True),
    ("fd00::1", 80, "[fd00::1]", True),
    ("fd00::1", 80, "[fd00::1]:80", True),
    ("fd00::1", 80, "[fd00::1]:81", False),
    ("::ffff:10.1.2.3", 80, "10.0.0.0/8", True),
]


@pytest.mark.parametrize(("host", "port", "no_proxy", "direct"), MATCHES)
def test_no_proxy(host: str, port: int, no_proxy: str, direct: bool) -> None:
    assert bypasses_proxy(host, port, no_proxy) is direct


addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 2**128 - 1).map(IPv6Address).filter(lambda address: address.ipv4_mapped is None),
)
labels = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)


@given(addresses, addresses, st.integers(0, 128))
def test_an_address_is_direct_if_it_is_in_the_range(address: Any, other: Any, bits: int) -> None:
    bits = min(bits, other.max_prefixlen)
    network = ip_network(f"{other}/{bits}", strict=False)
    assert bypasses_proxy(str(address), 80, f"x.org, {other}/{bits}") is (address in network)
    assert bypasses_proxy(str(address), 80, str(ip_network(f"{address}/{min(bits, address.max_prefixlen)}", False)))


@given(names, names, st.sampled_from(["", ".", "*."]), st.sampled_from(["", "."]))
def test_a_name_is_direct_if_it_ends_in_the_entry_at_a_dot(name: str, entry: str, before: str, after: str) -> None:
    labels_of_name, labels_of_entry = name.split("."), entry.split(".")
    expected = labels_of_name[-len(labels_of_entry) :] == labels_of_entry
    assert bypasses_proxy(name.upper() + after, None, f"{before}{entry}{'' if before == '*.' else after}") is expected
    assert bypasses_proxy(f"eu.{name}", 443, f"{before}{name}")
    assert not bypasses_proxy(f"x{name}", 443, f".{name}") or name.startswith(f"x{name}")


@given(st.text(max_size=60), st.text(max_size=40), st.none() | st.integers(1, 65535))
def test_any_text_is_an_answer(no_proxy: str, host: str, port: int | None) -> None:
    assert bypasses_proxy(host, port, no_proxy) in (True, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.9.1", "[::1]", "LOCALHOST"])
def test_a_loopback_address_is_never_reached_through_a_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://10.9.9.9:3128")
    assert find_proxy(service(), f"http://{host}:8000/v1") is None
    assert find_proxy(service(), "http://judge.example/v1") is not None
    configured = service(proxy=Secret("http://10.9.9.9:3128"))
    found = find_proxy(configured, f"http://{host}:8000/v1")
    assert found is not None and found.source == "service.proxy"


def test_the_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hush%40hush@proxy.example:3128")
    found = find_proxy(service(), "https://judge.example/v1")
    assert found is not None
    assert str(found) == "http://proxy.example:3128 (HTTPS_PROXY in the environment)"
    assert {secret.reveal() for secret in found.secrets} == {"hush%40hush", "hush@hush", "bWU6aHVzaEBodXNo"}
    monkeypatch.setenv("NO_PROXY", ".example")
    assert find_proxy(service(), "https://judge.example/v1") is None


@pytest.mark.parametrize(("value", "words"), [("socks5://127.0.0.1:1080", "socks5"), ("http://:3128", "expected")])
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(ConfigError, match=words):
        find_proxy(service(), "https://judge.example/v1")


@pytest.mark.parametrize(
    ("base_url", "proxy", "section", "problem"),
    [
        ("https://far/v1", None, {}, None),
        ("https://far/v1", "http://10.9.9.9:3128", {}, None),  # a tunnel: the proxy sees no secret
        ("http://127.0.0.1/v1", None, {}, None),
        ("http://127.0.0.1/v1", "http://127.0.0.1:3128", {}, None),
        ("http://127.0.0.1/v1", "http://10.9.9.9:3128", {}, "to the proxy at 10.9.9.9"),
        ("http://127.0.0.1/v1", "https://10.9.9.9:3128", {}, None),
        ("http://far/v1", None, {}, "to another host"),
        ("http://far/v1", "http://127.0.0.1:3128", {}, "to another host"),
        ("http://far/v1", "http://10.9.9.9:3128", {"allow_http": True}, None),
        ("http://far/v1", "http://10.9.9.9:3128", {"token_env": None}, None),
        ("http://far/v1", None, {"token_env": None, "headers": {"api-key": Secret("k")}}, "to another host"),
        ("http://far/v1", None, {"token_env": None, "query": {"key": Secret("k")}}, "to another host"),
        ("http://far/v1", None, {"token_env": None, "query": {"api-version": Secret("1")}}, None),
    ],
)
def test_a_secret_leaves_this_machine_in_the_clear_only_if_that_is_allowed(
    base_url: str, proxy: str | None, section: dict[str, Any], problem: str | None
) -> None:
    section = section if proxy is None else {**section, "proxy": Secret(proxy)}
    configured = service(**section)
    found = find_proxy(configured, base_url)
    if problem is None:
        check_clear_text(configured, base_url, found)
    else:
        with pytest.raises(ConfigError, match=problem):
            check_clear_text(configured, base_url, found)
