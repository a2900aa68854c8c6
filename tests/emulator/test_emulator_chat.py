"""Chat completions, through the documented clients and plain HTTP."""

from __future__ import annotations

import re
from uuid import UUID

import openai
import pytest

pytestmark = pytest.mark.anyio

TOKEN = "sesame"
NUMBER = re.compile(r"\[\[(\d+)\]\]")


def documented_client(url: str) -> openai.AsyncOpenAI:
    """Return the client as the page creates it, with a whole header as the key."""
    return openai.AsyncOpenAI(api_key=f"Authorization: Bearer {TOKEN}", base_url=f"{url}/v1", max_retries=0)


async def test_the_page_s_single_example_works_with_the_official_client(emulate, bodies):
    async with emulate(token=TOKEN) as caller, documented_client(caller.url) as client:
        completion = await client.chat.completions.create(**bodies.single())
    text = completion.choices[0].message.content
    assert re.match(r"我认为该回复的综合评分为\[\[[1-5]\]\],理由如下。\n当前回复的优点:\n", text)
    assert "\n当前回复的不足:\n" in text
    assert len(NUMBER.findall(text)) == 6
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion.usage.prompt_tokens > 700


async def test_the_page_s_pairwise_example_works_with_the_official_client(emulate, bodies):
    async with emulate(token=TOKEN) as caller, documented_client(caller.url) as client:
        completion = await client.chat.completions.create(**bodies.pair())
    text = completion.choices[0].message.content
    head = re.match(
        r"我认为\[\[回复([12])更好\]\],其中回复1的综合评分为\[\[(\d)\]\],"
        r"回复2的综合评分为\[\[(\d)\]\],理由如下:\n1\. 准确性:",
        text,
    )
    winner, first, second = head.groups()
    assert winner == ("1" if first > second else "2")


async def test_the_page_s_custom_example_works_with_the_official_client(emulate):
    system = "请作为一名公正的裁判,评价人工智能助手对下面用户问题的回答质量。"
    user = (
        "请对以下问题-回答按照1-5分进行打分:\n问题: 你认为社交媒体对人际关系的影响是什么?\n回复:更容易联系,也可能疏远。"
    )
    async with emulate(token=TOKEN) as caller, documented_client(caller.url) as client:
        completion = await client.chat.completions.create(
            model="pai-judge-plus",
            messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
        )
    assert re.search(r"我会给这个回答打[1-5]分。", completion.choices[0].message.content)
    assert completion.model == "pai-judge-plus"


async def test_the_body_has_the_page_s_shape(emulate, bodies):
    async with emulate() as caller:
        body = (await caller.chat(bodies.single())).json
    assert list(body) == [
        *("id", "object", "created", "model", "choices", "usage"),
        *("system_fingerprint", "service_tier"),
    ]
    assert str(UUID(body["id"])) == body["id"]
    assert body["system_fingerprint"] == "" == body["service_tier"]
    message = body["choices"][0]["message"]
    assert message == {**message, "refusal": "", "function_call": None, "tool_calls": None, "role": "assistant"}
    assert body["choices"][0]["logprobs"] is None


async def test_the_openai_dialect_has_openai_s_shape(emulate, bodies):
    async with emulate(dialect="openai") as caller:
        body = (await caller.chat(bodies.single())).json
    assert body["id"].startswith("chatcmpl-")
    assert body["choices"][0]["message"]["refusal"] is None
    assert body["created"] > 1_600_000_000


async def test_english_questions_get_english_verdicts(emulate, bodies):
    async with emulate(bias=1) as caller:
        single = (await caller.chat(bodies.single("What is a tie?", "A kind of knot."))).text
        pair = (
            await caller.chat(bodies.pair("What is a tie?", "A kind of knot worn with a shirt, among others.", "猫"))
        ).text
    assert re.match(r"I believe the overall rating of this response is \[\[[1-5]\]\], and the reasons are as", single)
    assert "Strengths of the current response:\n" in single
    assert "Shortcomings of the current response:\n" in single
    assert re.match(
        r"I believe \[\[Response [12] is better\]\], where the overall rating of Response 1 is \[\[\d\]\] and "
        r"the overall rating of Response 2 is \[\[\d\]\], and the reasons are as follows:\n1\. Accuracy: ",
        pair,
    )


async def test_equal_answers_are_a_tie(emulate, bodies):
    async with emulate() as caller:
        chinese = (await caller.chat(bodies.pair(answer1="一样", answer2="一样"))).text
        english = (await caller.chat(bodies.pair("Why?", "the same", "the same"))).text
    assert chinese.startswith("我认为[[回复1和回复2质量相当]],其中回复1的综合评分为[[")
    assert english.startswith("I believe [[Response 1 and Response 2 are of equal quality]], where the overall")


async def test_pairwise_verdicts_agree_with_their_scores_and_follow_a_swap(emulate, bodies):
    mirrored = {"1": "2", "2": "1", None: None}
    winners = []
    async with emulate() as caller:
        for number in range(40):
            texts = (f"answer {number} " * (1 + number % 7), f"another {number * 31} reply " * (1 + number % 5))
            plain = _pair_head((await caller.chat(bodies.pair("Why?", *texts))).text)
            swapped = _pair_head((await caller.chat(bodies.pair("Why?", *texts[::-1]))).text)
            assert swapped == (mirrored[plain[0]], plain[2], plain[1])
            winner, first, second = plain
            assert winner == (None if first == second else "1" if first > second else "2")
            winners.append(winner)
    assert set(winners) == {"1", "2", None}


def _pair_head(text: str) -> tuple[str | None, int, int]:
    head = text.split("\n", 1)[0]
    found = re.search(r"\[\[Response ([12]) is better\]\]", head)
    first, second = NUMBER.findall(head)
    return found[1] if found else None, int(first), int(second)


async def test_bias_gives_every_verdict_to_one_position(emulate, bodies):
    for bias, winner in ((1, "1"), (-1, "2")):
        async with emulate(bias=bias) as caller:
            replies = [await caller.chat(bodies.pair("Why?", f"a {n}", f"b {n} and more")) for n in range(8)]
        assert {_pair_head(reply.text)[0] for reply in replies} == {winner}


async def test_verdicts_are_repeatable_except_for_noise(emulate, bodies):
    requests = [bodies.single("Why?", f"because {n}") for n in range(20)]

    async def scores(caller) -> list[str]:
        return [NUMBER.search((await caller.chat(body)).text)[1] for body in requests]

    async with emulate(noise=1) as caller:
        noisy, again = await scores(caller), await scores(caller)
    async with emulate(noise=1) as caller:
        repeated = await scores(caller)
    async with emulate(seed=5) as caller:
        plain, same = await scores(caller), await scores(caller)
    assert plain == same
    assert noisy == repeated
    assert noisy != again
    assert all(one != other for one, other in zip(plain, noisy, strict=True))


@pytest.mark.parametrize("top", ["10", 100, "1"])
async def test_max_score_sets_the_scale(emulate, bodies, top):
    async with emulate() as caller:
        texts = [(await caller.chat(bodies.single(answer="山" * n, max_score=top))).text for n in range(1, 60, 7)]
    scores = [int(NUMBER.search(text)[1]) for text in texts]
    assert all(1 <= int(number) <= int(top) for text in texts for number in NUMBER.findall(text))
    assert max(scores) > 5 or top == "1"


async def test_the_body_is_read_as_json_regardless_of_its_content_type(emulate, bodies):
    async with emulate() as caller:
        for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
            reply = await caller.chat(bodies.single(), headers={"Content-Type": kind})
            assert reply.status == 200


async def test_max_tokens_cuts_the_answer(emulate, bodies):
    async with emulate() as caller:
        body = (await caller.chat({**bodies.single(), "max_tokens": 9})).json
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 9
    assert "我认为该回复".startswith(body["choices"][0]["message"]["content"][:6])


def _nested(part: object) -> dict[str, object]:
    """Return the page's invalid curl example, in which a content contains a whole message."""
    return {"model": "pai-judge", "messages": [{"role": "user", "content": [{"role": "user", "content": [part]}]}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"\xff\xfe", None),
        (b'[{"role": "user"}]', None),
        ({"messages": [{"role": "user", "content": "x"}]}, None),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}, "stream"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream_options": {}}, "stream_options"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}, "n"),
        (
            _nested({"mode": "single", "type": "json", "json": {"question": "q", "answer": "a"}}),
            "messages[0].content[0]",
        ),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"mode": "single", "json": {"question": "q"}}]}]},
            "messages[0].content[0].json.answer",
        ),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"json": {"question": "q", "answer1": "a"}}]}]},
            "messages[0].content[0].json.answer2",
        ),
    ],
)
async def test_an_invalid_body_is_a_400_that_names_the_parameter(emulate, body, param):
    async with emulate() as caller:
        reply = await caller.chat(body)
        stats = await caller.stats()
    assert reply.status == 400
    assert set(reply.error) == {"message", "type", "param", "code"}
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["param"] == param
    assert stats["status"] == {"400": 1}
    assert stats["distinct"] == 0


async def test_a_prompt_longer_than_the_context_is_refused(emulate, bodies):
    async with emulate() as caller:
        reply = await caller.chat(bodies.single(answer="word " * 30_000))
        shorter = await caller.chat(bodies.single(answer="word " * 20_000))
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert shorter.status == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"Bearer Authorization: Bearer {TOKEN}", 200),
        ("Bearer wrong", 401),
        (TOKEN, 401),
        (None, 401),
    ],
)
async def test_both_documented_authorizations_are_accepted_and_no_other(emulate, bodies, header, status):
    headers = {"Authorization": header} if header else {}
    async with emulate(token=TOKEN) as caller:
        reply = await caller.chat(bodies.single(), headers=headers)
        models = await caller.call("GET", "/v1/models", headers=headers)
    assert reply.status == models.status == status
    if status == 401:
        assert reply.error["code"] == "invalid_api_key"


async def test_without_a_token_every_request_is_accepted(emulate, bodies):
    async with emulate() as caller:
        assert (await caller.chat(bodies.single(), headers={"Authorization": "Bearer x"})).status == 200


async def test_wrong_paths_and_methods_get_errors_in_the_service_s_shape(emulate):
    async with emulate() as caller:
        missing = await caller.call("GET", "/v1/nothing")
        wrong = await caller.call("GET", "/v1/chat/completions")
        models = await caller.call("GET", "/v1/models")
    assert (missing.status, missing.error["code"]) == (404, "unknown_url")
    assert (wrong.status, wrong.error["code"], wrong.headers["Allow"]) == (405, "method_not_allowed", "POST")
    assert [model["id"] for model in models.json["data"]] == ["pai-judge", "pai-judge-plus"]


async def test_a_streamed_answer_is_the_answer_in_chunks(emulate, bodies):
    """The official client puts it together; wishing for a stream changes neither the answer nor its faults."""
    async with emulate() as caller:
        whole = (await caller.chat(bodies.single())).json
        client = openai.AsyncOpenAI(api_key="any", base_url=f"{caller.url}/v1")
        options = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in await client.chat.completions.create(**bodies.single(), **options)]
        bare = (await caller.chat({**bodies.single(), "stream": True})).raw
        stats = await caller.stats()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole["choices"][0]["message"]["content"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.model_dump(exclude_none=True) == whole["usage"]
    assert bare.endswith(b"data: [DONE]\n\n") and b"usage" not in bare
    assert (stats["distinct"], stats["distinct_ok"], stats["dup_ok"]) == (1, 1, 2)


@pytest.mark.parametrize(
    ("usage", "limit", "said"),
    [
        ("whole", None, lambda p, c: (p, c, p + c)),
        ("total_only", None, lambda p, c: (p, c, p + 21 * c)),
        ("total_only", 1000, lambda p, c: (p, c, p + min(21 * c, 1000))),
        ("zeros", None, lambda p, c: (0, 0, 0)),
        ("none", None, lambda p, c: None),
    ],
)
async def test_what_usage_says_and_what_is_counted(emulate, bodies, usage, limit, said):
    body = bodies.single() if limit is None else {**bodies.single(), "max_tokens": limit}
    async with emulate() as plain, emulate(usage=usage) as caller:
        counts = (await plain.chat(body)).json["usage"]
        found = (await caller.chat(body)).json["usage"]
        stats = await caller.stats()
    expected = said(counts["prompt_tokens"], counts["completion_tokens"])
    assert (None if found is None else tuple(found.values())) == expected
    if usage == "total_only":
        assert stats["prompt_tokens"] + stats["completion_tokens"] == found["total_tokens"]
