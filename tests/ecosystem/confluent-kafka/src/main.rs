//! Confluent's client in Rust: its admin client creates a topic, its producer fills it, its consumer reads the
//! partitions that it assigns itself. As a group member it either gets partitions or is refused at once, because it
//! speaks only the new consumer group protocol. Arguments: bootstrap, topic, number of records.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::time::{Duration, Instant};

use confluent_kafka::admin::{AdminClient, AdminClientConfig, NewTopic};
use confluent_kafka::common::TopicPartition;
use confluent_kafka::common::serialization::{StringDeserializer, StringSerializer};
use confluent_kafka::consumer::{Consumer, ConsumerConfig, KafkaConsumer};
use confluent_kafka::producer::{KafkaProducer, Producer, ProducerConfig, ProducerRecord};

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, bootstrap, topic, count] = &arguments[..] else {
        return Err("arguments: bootstrap, topic, count".into());
    };
    let count: usize = count.parse()?;
    create(bootstrap, topic).await?;
    produce(bootstrap, topic, count).await?;
    let mut reader = consumer(bootstrap, &[])?;
    let partitions: Vec<TopicPartition> = (0..PARTITIONS)
        .map(|index| TopicPartition::new(topic.as_str(), index))
        .collect();
    reader.assign(partitions.clone()).await?;
    reader.seek_to_beginning(&partitions).await?;
    let values = read(&mut reader, count).await?;
    reader.close().await?;
    println!(
        "assigned {} {}",
        values.len(),
        values.iter().collect::<HashSet<_>>().len()
    );
    println!("group {}", member(bootstrap, topic, count).await?);
    Ok(())
}

fn settings(bootstrap: &str, more: &[(&str, &str)]) -> HashMap<String, String> {
    let mut settings = HashMap::from([("bootstrap.servers".to_owned(), bootstrap.to_owned())]);
    settings.extend(
        more.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    settings
}

async fn create(bootstrap: &str, topic: &str) -> Outcome<()> {
    let admin = AdminClient::create(AdminClientConfig::new(&settings(bootstrap, &[]))?)?;
    let new = NewTopic::with_num_partitions_replication_factor(topic, Some(PARTITIONS), Some(1));
    admin.create_topics(&[new]).all().get().await?;
    Ok(())
}

async fn produce(bootstrap: &str, topic: &str, count: usize) -> Outcome<()> {
    let config = ProducerConfig::new(&settings(bootstrap, &[("compression.type", "zstd")]))?;
    let producer = KafkaProducer::<String, String>::new(
        config,
        StringSerializer::default(),
        StringSerializer::default(),
    )?;
    let mut sent = Vec::with_capacity(count);
    for number in 0..count {
        let value = format!("record {number:06}");
        let record = ProducerRecord::with_key(
            topic.to_owned(),
            Some(format!("key {}", number % 10)),
            Some(value),
        );
        sent.push(producer.send(record).await?);
    }
    for answer in sent {
        answer.get().await?;
    }
    producer.close().await?;
    Ok(())
}

fn consumer(bootstrap: &str, more: &[(&str, &str)]) -> Outcome<KafkaConsumer<String, String>> {
    let mut settings = settings(bootstrap, more);
    // The only protocol that it supports; without this setting even a consumer without a group cannot be created.
    settings.insert("group.protocol".to_owned(), "consumer".to_owned());
    let config = ConsumerConfig::new(&settings)?;
    Ok(KafkaConsumer::new(
        config,
        StringDeserializer::default(),
        StringDeserializer::default(),
    )?)
}

async fn read(reader: &mut KafkaConsumer<String, String>, count: usize) -> Outcome<Vec<String>> {
    let start = Instant::now();
    let mut values = Vec::new();
    while values.len() < count {
        if start.elapsed() > PATIENCE {
            return Err(format!("{} of {count} records came", values.len()).into());
        }
        for record in &reader.poll(Duration::from_millis(200)).await? {
            values.push(record.value().cloned().unwrap_or_default());
        }
    }
    Ok(values)
}

/// The outcome of reading as a member: how many records, or the refusal.
async fn member(bootstrap: &str, topic: &str, count: usize) -> Outcome<String> {
    let mut reader = consumer(
        bootstrap,
        &[
            ("group.id", "confluent-rust"),
            ("auto.offset.reset", "earliest"),
        ],
    )?;
    reader.subscribe_with_topics(vec![topic.to_owned()]).await?;
    let outcome = read(&mut reader, count).await;
    // A refused member has no group to leave.
    let _ = reader.close().await;
    match outcome {
        Ok(values) => Ok(values.len().to_string()),
        Err(error)
            if error
                .downcast_ref::<confluent_kafka::common::Error>()
                .is_some() =>
        {
            Ok(format!("refused: {error}"))
        }
        Err(error) => Err(error),
    }
}
