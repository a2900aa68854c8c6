"""Secrets: where they are refused, how a token is read, and that no output contains one."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.config import ServiceConfig, load_config, masked
from runner.errors import ConfigError

HEAD = "dataset: {path: a.jsonl}\njudge: {}\n"
SECRET = "sk-Zq9wXyT4kLm2"


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        *((f"{key}: {SECRET}", f"service.{key}: tokens do not belong in this file; set 'token_env' to the name")
          for key in ("token", "api_key", "api-key", "apikey", "key", "secret", "password", "access_token", "API_KEY")),
        (f"limits: {{token: {SECRET}}}", "service.limits.token: tokens do not belong in this file"),
        (f"token_env: {SECRET}", "service.token_env: expected the name of an environment variable"),
        (f"token_env: Bearer {SECRET}", "service.token_env: expected the name of an environment variable"),
        (f"headers: {{Authorization: Bearer {SECRET}}}", "service.headers.Authorization: secrets do not belong"),
        (f"headers: {{X-Api-Key: {SECRET}}}", "service.headers.X-Api-Key: secrets do not belong"),
        (f"headers: {{cookie: {SECRET}}}", "service.headers.cookie: secrets do not belong"),
        (f"headers: {{X-Auth-Token: '${{T:-{SECRET}}}'}}", "service.headers.X-Auth-Token: secrets do not belong"),
        (f"base_url: https://user:{SECRET}@host/v1", "service.base_url: an address must not contain a user name"),
        (f"base_url: https://{SECRET}@host/v1", "service.base_url: an address must not contain a user name"),
        (f"proxy: http://user:{SECRET}@host:1", "service.proxy: take a proxy with a password from the environment"),
        (f"proxy: '${{P:-http://u:{SECRET}@host:1}}'", "service.proxy: take a proxy with a password from the"),
        (f"proxy: http://${{U}}:{SECRET}@host:1", "service.proxy: take a proxy with a password from the environment"),
        (f"proxy: [{SECRET}]", "service.proxy: expected an address such as http://host:3128"),
        (f"ca_file: [{SECRET}]", "service.ca_file: expected a text, found a list"),
        (f"kind: {SECRET}", "service.kind: expected one of: http, emulator, found a value that is not shown here"),
        (f"{SECRET}Zq9wXyT4kLm2: 1", "service.***: unknown key; expected one of"),
    ],
)  # fmt: skip
def test_a_secret_in_the_file_is_refused_and_not_repeated(load_error, service, expected):
    message = load_error(HEAD + f"service:\n  {service}\n", environ={"U": "u"})
    assert f"judge.yaml:4: {expected}" in message
    assert "Zq9w" not in message


def test_every_service_of_a_list_is_checked(load_error):
    message = load_error(HEAD + f"services:\n- name: default\n  token: {SECRET}\n")
    assert "judge.yaml:5: services.0.token: tokens do not belong in this file" in message


def test_secrets_from_the_environment_are_accepted_and_masked(load):
    config = load(
        HEAD
        + "service:\n  token_env: null\n  headers: {Authorization: 'Bearer ${T}', X-Api-Key: '${K}', X-Team: judges}\n"
        "  proxy: http://user:${T}@proxy:3128\n  emulator: {token: '${T}', rpm: 5}\n",
        environ={"T": SECRET, "K": "0012_34"},
    )
    service = config.services[0]
    assert service.headers["Authorization"].reveal() == f"Bearer {SECRET}"
    assert service.headers["X-Api-Key"].reveal() == "0012_34"
    assert service.proxy.reveal() == f"http://user:{SECRET}@proxy:3128"
    shown = masked(config)["services"][0]
    assert shown["headers"] == {"Authorization": "***", "X-Api-Key": "***", "X-Team": "***"}
    assert (shown["proxy"], shown["emulator"]) == ("***", {"token": "***", "rpm": 5})
    for text in (json.dumps(masked(config)), config.document, str(service.headers), repr(service.proxy)):
        assert SECRET not in text


def test_repr_and_dump_of_the_model_contain_no_secret(load):
    config = load(HEAD + "service: {headers: {X-Api-Key: '${T}'}, proxy: 'http://u:${T}@h:1'}\n", environ={"T": SECRET})
    assert SECRET not in repr(config)
    assert SECRET not in config.model_dump_json()


@pytest.mark.parametrize(
    "given_text",
    [
        "tok-1",
        " tok-1\n",
        "'tok-1'",
        "Bearer tok-1",
        "bearer  tok-1",
        "Authorization: Bearer tok-1",
        "AUTHORIZATION:Bearer tok-1",
        "Bearer Authorization: Bearer tok-1",
        '"Authorization: Bearer tok-1"',
        "Bearer 'tok-1'",
    ],
)
def test_quotes_and_header_name_are_stripped_from_a_token(given_text, tmp_path):
    assert ServiceConfig(token_env="T").token({"T": given_text}).reveal() == "tok-1"
    file = tmp_path / "token"
    file.write_text(given_text)
    assert ServiceConfig(token_file=str(file)).token({}).reveal() == "tok-1"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {},
            "variable JUDGE_MODEL_TOKEN is not set; it should contain the token of the service 'default'",
        ),
        ({"JUDGE_MODEL_TOKEN": " "}, "the environment variable JUDGE_MODEL_TOKEN is empty"),
        ({"JUDGE_MODEL_TOKEN": "Bearer "}, "the environment variable JUDGE_MODEL_TOKEN is empty"),
        ({"JUDGE_MODEL_TOKEN": "Zq9w two"}, "does not contain a token"),
        ({"JUDGE_MODEL_TOKEN": "Zq9w\nx"}, "does not contain a token"),
        ({"JUDGE_MODEL_TOKEN": "Zq9w好"}, "does not contain a token"),
    ],
)
def test_unusable_tokens(environ, expected):
    with pytest.raises(ConfigError) as caught:
        ServiceConfig().token(environ)
    assert expected in str(caught.value)
    assert "Zq9w" not in str(caught.value)


def test_unreadable_token_files(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the token file .*: No such file"):
        ServiceConfig(token_file=str(tmp_path / "none")).token({})
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        ServiceConfig(token_file=str(tmp_path / "odd")).token({})


def test_services_without_a_token():
    assert ServiceConfig(token_env=None).token({}) is None
    assert ServiceConfig(kind="emulator").token({}) is None
    assert ServiceConfig(kind="emulator", emulator={"token": "t"}).token({}).reveal() == "t"


@pytest.mark.parametrize(
    ("service", "allowed"),
    [
        ("base_url: http://far/v1", False),
        ("base_url: http://127.0.0.1.example.org/v1", False),
        ("base_url: http://192.168.0.1/v1, headers: {Authorization: '${T}'}, token_env: null", False),
        ("base_url: http://far/v1, headers: {X-Api-Key: '${T}'}, token_env: null", False),
        ("base_url: http://far/v1, token_file: t", False),
        ("base_url: http://far/v1, query: {key: '${T}'}, token_env: null", False),
        ("base_url: http://far/v1, query: {api-version: v1}, token_env: null", True),
        ("base_url: http://far/v1, allow_http: true", True),
        ("base_url: http://far/v1, token_env: null", True),
        ("base_url: http://far/v1, kind: emulator", True),
        ("base_url: https://far/v1", True),
        ("base_url: http://localhost:8000/v1", True),
        ("base_url: http://127.9.9.9/v1", True),
        ("base_url: 'http://[::1]:80/v1'", True),
    ],
)
def test_a_token_is_sent_over_plain_http_only_to_this_machine(load, load_error, service, allowed):
    text = HEAD + f"service: {{{service}}}\n"
    if allowed:
        assert load(text, environ={"T": "t"}).services[0].base_url.startswith("http")
    else:
        assert "judge.yaml:3: service.base_url: a token would be sent over plain http" in load_error(
            text, environ={"T": "t"}
        )


@pytest.mark.parametrize(
    ("proxy", "allowed"),
    [
        ("http://far:1", False),
        ("https://far:1", True),
        ("http://127.0.0.1:1", True),
        ("http://far:1, allow_http: true", True),
    ],
)
def test_a_token_is_sent_over_plain_http_to_no_proxy_of_another_host(load, load_error, proxy, allowed):
    text = HEAD + f"service: {{base_url: http://127.0.0.1/v1, proxy: {proxy}}}\n"
    if allowed:
        assert load(text).services[0].proxy.reveal().startswith("http")
    else:
        assert "judge.yaml:3: service.proxy: a token would be sent over plain http to the proxy at far" in load_error(
            text
        )


def test_values_of_the_query_that_are_secrets_come_from_variables(load, load_error):
    """All are masked, and none is in a message about the file."""
    for name in ("key", "api-key", "subscription-key", "code", "sig", "access_token"):
        message = load_error(HEAD + f"service: {{query: {{{name}: hush-hush}}}}\n")
        assert f"service.query.{name}: secrets do not belong in this file" in message and "hush" not in message
        config = load(HEAD + f"service: {{query: {{{name}: '${{K}}'}}}}\n", environ={"K": "hush-hush"})
        assert masked(config)["services"][0]["query"] == {name: "***"}
    query = load(HEAD + "service: {query: {api-version: 2024-10-21, n: 7}}\n").services[0].query
    assert {name: value.reveal() for name, value in query.items()} == {"api-version": "2024-10-21", "n": "7"}
    message = load_error(HEAD + "service: {base_url: x}\n", 'service.query={key: "hush-hush"}')
    assert "hush" not in message


def test_a_token_has_only_one_source(load_error):
    message = load_error(HEAD + "service: {token_env: T, token_file: t}\n")
    assert "service.token_file: expected either token_env or token_file, found both" in message
    message = load_error(HEAD + "service: {headers: {authorization: '${T}'}}\n", environ={"T": "t"})
    assert "service.headers.authorization: set 'token_env: null' if you set this header here" in message


SERVICE_KEYS = [
    "token", "token_env", "kind", "name", "base_url", "batch", "proxy", "timeout", "limits", "headers", "ca_file",
    "allow_http", "authorization", "dialect", "whatever",
]  # fmt: skip


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    key=st.sampled_from(SERVICE_KEYS),
    form=st.sampled_from(
        ["{}", "'{}'", "Bearer {}", "[{}]", "{{a: {}}}", "{{{}: a}}", "http://u:{}@h", "*{}", "!{} x"]
    ),
    as_override=st.booleans(),
)
def test_no_error_repeats_a_secret(tmp_path, key, form, as_override):
    value = form.format(SECRET + "7Hj5Nn8")
    path = tmp_path / "judge.yaml"
    path.write_text(HEAD + ("" if as_override else f"service:\n  {key}: {value}\n"))
    try:
        load_config(path, [f"service.{key}={value}"] if as_override else [], environ={})
    except ConfigError as error:
        assert "Zq9w" not in str(error)
