"""What to start a model server with, so that its answers can be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How one server is started; why: what each flag is for."""

    server: str
    command: str
    url: str
    why: str


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "vLLM",
        "vllm serve MODEL --enable-auto-tool-choice --tool-call-parser hermes"
        " --max-model-len 8192 --enable-prefix-caching",
        "http://HOST:8000/v1",
        "the parser goes with the model (hermes: Qwen 2.5 and 3, qwen3_coder: Qwen3-Coder,"
        " llama3_json: Llama 3, with --chat-template, mistral: Mistral); for a model that reasons"
        " add --reasoning-parser with its name",
    ),
    Recipe(
        "Ollama",
        "OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_KEEP_ALIVE=-1 OLLAMA_NUM_PARALLEL=4 ollama serve",
        "http://HOST:11434/v1",
        "the default context may be no more than 4096, and longer prompts are cut silently;"
        " memory is for parallel times context; keep-alive keeps the model loaded between"
        " decisions; tool_choice is ignored, so structured mode may be found",
    ),
    Recipe(
        "llama.cpp",
        "llama-server -m MODEL.gguf --jinja -c 8192 --parallel 1 --reasoning-budget 0",
        "http://HOST:8080/v1",
        "--jinja turns tool calling on (newer builds do by themselves); the context is divided"
        " among --parallel slots; --reasoning-budget 0 keeps a reasoning model from using up the"
        " answer",
    ),
)
