//! Topics and their configs.

use std::time::Instant;

use rdkafka::admin::{AlterConfig, NewPartitions, ResourceSpecifier};

use crate::{Compat, DEADLINE, Outcome, expect, options};

pub async fn topics(compat: &Compat) -> Outcome {
    let name = compat.name("admin");
    compat
        .create("admin", 3, &[("retention.ms", "3600000")])
        .await?;
    expect(
        compat.create("admin", 3, &[]).await.is_err(),
        "the topic was created twice",
    )?;
    let more = NewPartitions::new(&name, 5);
    for answer in compat.admin.create_partitions([&more], &options()).await? {
        answer.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    let change = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("max.message.bytes", "2000");
    for answer in compat.admin.alter_configs([&change], &options()).await? {
        answer.map_err(|(_, code)| code.to_string())?;
    }
    until_altered(compat, &name).await?;
    let metadata = compat.admin.inner().fetch_metadata(Some(&name), DEADLINE)?;
    let partitions = metadata
        .topics()
        .first()
        .map(|topic| topic.partitions().len());
    expect(partitions == Some(5), format!("{partitions:?} partitions"))
}

/// A broker gets an altered config from the controller, which may be after the answer.
async fn until_altered(compat: &Compat, topic: &str) -> Outcome {
    let resource = ResourceSpecifier::Topic(topic);
    let end = Instant::now() + DEADLINE;
    loop {
        let described = compat
            .admin
            .describe_configs([&resource], &options())
            .await?
            .remove(0)?;
        let entries = described.entry_map();
        let value = |key| entries.get(key).and_then(|entry| entry.value.as_deref());
        // AlterConfigs replaces all of a topic's configs.
        if value("max.message.bytes") == Some("2000") && value("retention.ms") == Some("604800000")
        {
            return Ok(());
        }
        expect(Instant::now() < end, "the config was not altered")?;
    }
}

pub async fn delete(compat: &Compat) -> Outcome {
    let name = compat.name("admin");
    for answer in compat.admin.delete_topics(&[&name], &options()).await? {
        answer.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    let again = compat.admin.delete_topics(&[&name], &options()).await?;
    expect(
        again.iter().all(Result::is_err),
        "the topic was deleted twice",
    )
}
