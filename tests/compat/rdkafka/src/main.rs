//! rdkafka against a broker: prints a line for each check as claims.py does. Arguments: bootstrap, prefix.

mod admin;
mod group;
mod records;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

pub const DEADLINE: Duration = Duration::from_secs(40);

/// The broker under test, and the prefix of all names that this program creates there.
pub struct Compat {
    bootstrap: String,
    prefix: String,
    pub admin: AdminClient<DefaultClientContext>,
}

impl Compat {
    fn new(bootstrap: String, prefix: String) -> Outcome<Self> {
        let admin = config(&bootstrap).create()?;
        Ok(Self {
            bootstrap,
            prefix,
            admin,
        })
    }

    pub fn config(&self) -> ClientConfig {
        config(&self.bootstrap)
    }

    pub fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.prefix)
    }

    pub async fn create(&self, of: &str, partitions: i32, configs: &[(&str, &str)]) -> Outcome {
        let name = self.name(of);
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        for answer in self.admin.create_topics([&topic], &options()).await? {
            answer.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        Ok(())
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "rdkafka");
    config
}

pub fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(DEADLINE))
}

pub fn expect(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(otherwise.into().into())
    }
}

async fn claim(name: &str, check: impl Future<Output = Outcome>) {
    let outcome = match tokio::time::timeout(2 * DEADLINE, check).await {
        Ok(outcome) => outcome,
        Err(_) => Err("no answer in time".into()),
    };
    match outcome {
        Ok(()) => println!("ok {name}"),
        Err(error) => println!("not ok {name}: {}", error.to_string().replace('\n', " ")),
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (Some(bootstrap), Some(prefix)) = (arguments.next(), arguments.next()) else {
        return Err("arguments: BOOTSTRAP PREFIX".into());
    };
    let compat = Compat::new(bootstrap, prefix)?;
    claim(
        "admin_creates_alters_and_describes_a_topic",
        admin::topics(&compat),
    )
    .await;
    claim(
        "every_codec_comes_back_as_it_was_sent",
        records::codecs(&compat),
    )
    .await;
    claim("every_acks_is_answered", records::acks(&compat)).await;
    claim(
        "idempotent_producer_keeps_order",
        records::idempotent(&compat),
    )
    .await;
    claim("offsets_are_found_by_time", records::offsets(&compat)).await;
    claim("group_resumes_from_its_commit", group::commit(&compat)).await;
    claim("eager_group_rebalances", group::rebalance(&compat, "range")).await;
    claim(
        "cooperative_group_rebalances",
        group::rebalance(&compat, "cooperative-sticky"),
    )
    .await;
    claim("groups_are_listed_and_deleted", group::listed(&compat)).await;
    claim("admin_deletes_topics", admin::delete(&compat)).await;
    println!("done");
    Ok(())
}
