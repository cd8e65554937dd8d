"""A language model as a judge: any OpenAI-compatible endpoint, or a local model in vLLM; each answer paid for once."""
