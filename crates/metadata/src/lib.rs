//! Cluster metadata: records, image, delta, snapshot. Pure.
