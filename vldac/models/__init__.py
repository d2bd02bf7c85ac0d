"""Vision-language models: prompts, sampling and one adapter for each model family."""
