"""The official openai client against feedback serve: FEEDBACK MODEL, a model of characters and one of bytes."""
import subprocess
import sys

import openai

feedback, characters, of_bytes = sys.argv[1:]
process = subprocess.Popen(
    [feedback, "serve", characters, of_bytes, "--port", "0", "--api-key", "secret", "--batch", "4", "--queue", "60"],
    stderr=subprocess.PIPE, text=True)
address = next(line.split()[-1] for line in process.stderr if "completions:" in line)


def client(key="secret"):
    return openai.OpenAI(base_url=address, api_key=key, max_retries=0)


api = client()
names = [model.id for model in api.models.list()]
assert len(names) == 2 and api.models.retrieve(names[0]).id == names[0]
name = characters.rstrip("/").split("/")[-1]
bytes_name = of_bytes.rstrip("/").split("/")[-1]


def complete(model=name, prompt="is", **options):
    return api.completions.create(model=model, prompt=prompt, **options)


def streamed(**options):
    """Texts, reasons and log-probabilities by choice, and the usage, of a stream."""
    choices, usage = {}, None
    for chunk in complete(stream=True, stream_options={"include_usage": True}, **options):
        usage = chunk.usage or usage
        for part in chunk.choices:
            own = choices.setdefault(part.index, ["", [], [], []])
            own[0] += part.text
            if part.finish_reason:
                own[1].append(part.finish_reason)
            if part.logprobs:
                own[2] += part.logprobs.tokens
                own[3] += part.logprobs.token_logprobs
    return choices, usage


# Whole and streamed are the same, for every form of prompt and option.
compared = 0
for options in [
    {"max_tokens": 30, "seed": 1}, {"max_tokens": 30, "temperature": 0}, {"n": 3, "seed": 2, "max_tokens": 20},
    {"prompt": ["is", "odd", "ja"], "n": 2, "seed": 3, "max_tokens": 10}, {"prompt": [1, 2, 3], "temperature": 0},
    {"prompt": [[1], [2, 3]], "seed": 4}, {"echo": True, "seed": 5, "logprobs": 2}, {"logprobs": 0, "seed": 6},
    {"logprobs": 5, "seed": 7, "stop": ["s", "d "], "max_tokens": 100}, {"top_p": 0.5, "seed": 8, "extra_body": {"top_k": 3}},
    {"model": bytes_name, "prompt": "nö", "seed": 9, "max_tokens": 60, "n": 4},
    {"model": bytes_name, "prompt": "—", "echo": True, "logprobs": 1, "max_tokens": 30},
    {"max_tokens": 0, "echo": True, "logprobs": 1}, {"n": 2, "best_of": 2, "seed": 1, "user": "me", "presence_penalty": 0},
]:
    if "seed" not in options:
        options["temperature"] = 0
    whole = complete(**options)
    choices, usage = streamed(**options)
    assert usage == whole.usage and len(choices) == len(whole.choices)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    for choice in whole.choices:
        text, reasons, tokens, logprobs = choices[choice.index]
        assert text == choice.text and reasons == [choice.finish_reason], (options, text, choice.text)
        if "logprobs" in options:
            assert (tokens, logprobs) == (choice.logprobs.tokens, choice.logprobs.token_logprobs)
            if options.get("model", name) == name:
                assert "".join(tokens) == choice.text
    assert complete(**options).choices == whole.choices
    compared += len(whole.choices)

# Every place that a stop can begin at, one character or two long: the text ends before it, also across chunks.
free = complete(max_tokens=40, temperature=0).choices[0].text
for start in range(len(free) - 1):
    for stop in [free[start], free[start:start + 2], free[start:start + 2] + "€"]:
        options = {"max_tokens": 40, "temperature": 0, "stop": stop}
        expected = free.split(stop)[0]
        (text, reasons, *_), usage = streamed(**options)[0][0], None
        assert (text, reasons) == (expected, ["stop" if stop in free else "length"]), (stop, text)
        assert complete(**options).choices[0].text == expected

# Errors are the client's own kinds.
for kind, options in [
    (openai.NotFoundError, {"model": "nothing"}), (openai.BadRequestError, {"max_tokens": "many"}),
    (openai.BadRequestError, {"prompt": ""}), (openai.BadRequestError, {"logprobs": 6}),
    (openai.BadRequestError, {"prompt": "❄"}), (openai.BadRequestError, {"suffix": "x"}),
    (openai.BadRequestError, {"n": 65}), (openai.BadRequestError, {"extra_body": {"nonsense": 1}}),
]:
    try:
        complete(**options)
        raise SystemExit(f"{options} is answered")
    except kind as error:
        assert error.body["message"] and error.body["type"] == "invalid_request_error", error.body
try:
    client("wrong").models.list()
    raise SystemExit("a wrong key is taken")
except openai.AuthenticationError as error:
    assert error.code == "invalid_api_key"

# A client that goes in the middle of a stream, and one on the same connection after it.
with complete(stream=True, max_tokens=4000) as stream:
    next(iter(stream))
assert complete(max_tokens=1).usage.completion_tokens == 1

process.terminate()
assert process.wait(timeout=60) == 143
print(f"server: {compared} choices of the openai client are the same streamed, and {3 * (len(free) - 1)} stops cut where they should")
