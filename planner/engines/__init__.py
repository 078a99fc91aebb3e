"""How a serving engine turns the byte curve into a pool: a file an engine, its rules by version with their source.

No formula of a cache stands here. An engine asks `planner.model.attention`, `planner.model.recurrent` and
`planner.memory.estimate` for bytes and cuts them into pages, blocks, groups and pools, the way it prints them.
"""
