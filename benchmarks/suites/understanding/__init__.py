"""General understanding: what a model could see and read before training, it should still see and read after it.

The questions are those of `envs.pictures`, on seeds that training never draws. They resemble no published set; the
published ones run through lmms-eval (`benchmarks.lmms_eval.command`).
"""
