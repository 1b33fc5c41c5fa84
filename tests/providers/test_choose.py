"""The choice of a provider is explicit, and each mistake names its remedy."""

import pytest

from agentd.clock import SystemClock
from agentd.providers.choose import (
    OPENAI_MODEL,
    ProviderChoiceError,
    ProviderSettings,
    choose_provider,
    chosen_by_default,
)
from agentd.providers.openai import OpenAIProvider
from agentd.providers.provider import Provider

ENV = {"OPENAI_API_KEY": "sk-test-0123456789abcdef"}


def chosen(env: dict[str, str] | None = None, **settings: str) -> Provider:
    return choose_provider(ProviderSettings(**settings), ENV if env is None else env, SystemClock())  # type: ignore[arg-type]


def refused(env: dict[str, str] | None = None, **settings: str) -> ProviderChoiceError:
    with pytest.raises(ProviderChoiceError) as caught:
        chosen(env, **settings)
    return caught.value


@pytest.mark.parametrize("name", [None, "", " "])
def test_unset_is_offline_and_known_to_be_a_default(name: str | None) -> None:
    settings = ProviderSettings(name=name)
    assert choose_provider(settings, ENV, SystemClock()).offline
    assert chosen_by_default(settings)


def test_offline_by_name_is_no_default() -> None:
    assert chosen(name="offline").offline
    assert not chosen_by_default(ProviderSettings(name="offline"))


def test_openai_takes_address_and_model_from_the_environment_before_the_settings() -> None:
    env = {**ENV, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1/", "AGENTD_MODEL": "a"}
    provider = chosen(env, name="openai", model="b", base_url="http://localhost/x")
    assert isinstance(provider, OpenAIProvider)
    assert (provider.base_url, provider.model) == ("http://127.0.0.1:9/v1", "a")
    provider = chosen(name="OpenAI", model="b", base_url="http://localhost:8080/x")
    assert isinstance(provider, OpenAIProvider)
    assert (provider.base_url, provider.model) == ("http://localhost:8080/x", "b")


def test_openai_itself_is_the_default_address() -> None:
    provider = chosen(name="openai")
    assert isinstance(provider, OpenAIProvider)
    assert (provider.base_url, provider.model) == ("https://api.openai.com/v1", OPENAI_MODEL)
    assert not provider.offline


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    error = refused(name="opnai")
    assert "opnai" in error.message
    assert "offline, openai" in error.hint


@pytest.mark.parametrize("env", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": "  "}])
@pytest.mark.parametrize("base_url", ["", "http://127.0.0.1:9/v1"])
def test_a_missing_key_is_an_error_for_every_address(env: dict[str, str], base_url: str) -> None:
    error = refused(env, name="openai", base_url=base_url)
    assert "OPENAI_API_KEY" in error.message
    assert "any text" in error.hint


@pytest.mark.parametrize("key", ["sk-\nsecret", "sk-sécret", "two secret words"])
def test_a_key_that_cannot_be_sent_is_told_without_showing_it(key: str) -> None:
    error = refused({"OPENAI_API_KEY": key}, name="openai")
    assert "secret" not in str(error)
    assert "sécret" not in str(error)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8080",
        "ftp://host/v1",
        "http://",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://ho st/v1",
        "http://[::1/v1",
        "https://host/v1?x=1",
        "not an address",
    ],
)
def test_a_malformed_address_is_told_with_an_example(address: str) -> None:
    error = refused(name="openai", base_url=address)
    assert "address" in error.message
    assert "OPENAI_BASE_URL" in error.hint


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    assert "hunter2" not in str(refused(name="openai", base_url="http://me:hunter2@host/v1"))
