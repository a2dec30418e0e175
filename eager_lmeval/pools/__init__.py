"""The harness's requests on their way to responses: who belongs together, both stages of a strategy, the record of it.

`requests` sorts and checks, `labels` reads what documents carry, `decoding` makes an engine for a pool's options,
`run` takes a pool through its strategy, stage by `stage`, `response` is what goes back and `record` what is written
about it. Knows the harness's Instance. Does not know metrics, tasks or commands.
"""
