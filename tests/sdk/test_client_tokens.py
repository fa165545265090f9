"""C29: an SDK's API key is the client's token. Another one is the error that each SDK has for it, and is sent once."""

import anthropic
import openai
import pytest
from google import genai

TOKEN = "CANARY-token-0123456789"
WRONG = "CANARY-wrong-0123456789"
TURN = [{"role": "user", "content": "hi"}]


def ask_openai(key, url):
    with openai.OpenAI(api_key=key, base_url=f"{url}/v1") as client:
        return client.chat.completions.create(model="gpt-4o", messages=TURN).choices[0].message.content


def ask_anthropic(key, url):
    with anthropic.Anthropic(api_key=key, base_url=url) as client:
        return client.messages.create(model="claude-test", max_tokens=9, messages=TURN).content[0].text


def ask_google(key, url):
    client = genai.Client(api_key=key, http_options={"base_url": url})
    return client.models.generate_content(model="gemini-2.5-flash", contents="hi").text


CLIENTS = {
    "openai": (ask_openai, openai.AuthenticationError, "status_code"),
    "anthropic": (ask_anthropic, anthropic.AuthenticationError, "status_code"),
    "google": (ask_google, genai.errors.ClientError, "code"),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_the_api_key_is_the_token(provider, retryd, tmp_path, name):
    for file, text in (("tokens", f"alice {TOKEN}\n"), ("key", "sk-upstreams-own\n")):
        (tmp_path / file).write_text(text)
        (tmp_path / file).chmod(0o600)
    ask, refusal, status = CLIENTS[name]
    provider.answers({"preset": "auto", "text": "well"}, then="repeat")
    d = retryd(server={"client_keys_file": tmp_path / "tokens"}, upstream_settings={"api_key_file": tmp_path / "key"},
               config="[route google]\nbase = /v1beta\n")
    with pytest.raises(refusal, match="client_keys_file") as raised:
        ask(WRONG, d.url)
    assert getattr(raised.value, status) == 401
    assert d.metric("retryd_requests_total") == d.metric("retryd_unauthorized_total") == 1
    assert provider.record() == []
    assert ask(TOKEN, d.url) == "well"
    assert "CANARY" not in str(provider.record())
