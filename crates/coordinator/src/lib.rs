//! Groups and offsets as state machines over their partition's records. Pure.
