//! A small async Kafka client, for the command line, the console and followers.
