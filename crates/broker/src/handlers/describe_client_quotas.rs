//! `DescribeClientQuotas` (key 48), versions 0 and 1; they differ in encoding only.
//!
//! Quotas are not enforced, and none can be set. Metadata that Kafka wrote may hold some, which are shown.

use std::collections::BTreeMap;

use ottla_metadata::QuotaEntity;
use ottla_protocol::messages::describe_client_quotas_request::ComponentData;
use ottla_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use ottla_protocol::messages::{
    DescribeClientQuotasRequestData, DescribeClientQuotasResponseData, ErrorCode, KafkaString,
};

use crate::broker::Broker;
use crate::context::RequestContext;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";
/// How a component of the filter matches: a name, the default entity, any entity of the type.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// What the name of an entity must be.
enum Wanted {
    /// This name, or the default entity.
    Named(Option<String>),
    /// Any name, and the default entity too.
    Any,
}

/// The filter, by type of entity.
type Filter = BTreeMap<String, Wanted>;

/// Why a filter is refused.
struct Refused {
    code: ErrorCode,
    why: String,
}

/// Lists the quotas that match.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeClientQuotasRequestData,
) -> DescribeClientQuotasResponseData {
    let filter = match filter(&request.components) {
        Ok(filter) => filter,
        Err(refused) => {
            return DescribeClientQuotasResponseData::default()
                .with_error_code(refused.code.code())
                .with_error_message(Some(refused.why.into()))
                .with_entries(None);
        }
    };
    let image = broker.controller.image();
    let found = image
        .quotas
        .iter()
        .filter(|(entity, _)| matches(entity, &filter, request.strict))
        .map(|(entity, values)| entry(entity, values.iter()));
    DescribeClientQuotasResponseData::default().with_entries(Some(found.collect()))
}

fn filter(components: &[ComponentData]) -> Result<Filter, Refused> {
    let mut filter = Filter::new();
    for component in components {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return Err(invalid("the filter holds an empty entity type".to_owned()));
        }
        if filter.contains_key(kind) {
            let why = format!("the filter names the entity type {kind} twice");
            return Err(invalid(why));
        }
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            return Err(Refused {
                code: ErrorCode::UnsupportedVersion,
                why: format!(
                    "the entity type {kind} does not exist; there are user, client-id and ip"
                ),
            });
        }
        filter.insert(kind.to_owned(), wanted(component)?);
    }
    if filter.contains_key(IP) && filter.len() > 1 {
        let why = "the entity type ip cannot be combined with user or client-id";
        return Err(invalid(why.to_owned()));
    }
    Ok(filter)
}

fn wanted(component: &ComponentData) -> Result<Wanted, Refused> {
    let name = component.r#match.as_ref().map(KafkaString::as_str);
    match (component.match_type, name) {
        (EXACT, Some(name)) => Ok(Wanted::Named(Some(name.to_owned()))),
        (DEFAULT, None) => Ok(Wanted::Named(None)),
        (SPECIFIED, None) => Ok(Wanted::Any),
        (EXACT, None) => Err(invalid("an exact match needs a name".to_owned())),
        (DEFAULT | SPECIFIED, Some(_)) => {
            Err(invalid("only an exact match takes a name".to_owned()))
        }
        (other, _) => Err(invalid(format!("the match type {other} does not exist"))),
    }
}

fn invalid(why: String) -> Refused {
    Refused {
        code: ErrorCode::InvalidRequest,
        why,
    }
}

/// Whether an entity has all types that the filter names; with a strict filter, no other.
fn matches(entity: &QuotaEntity, filter: &Filter, strict: bool) -> bool {
    if strict && entity.len() != filter.len() {
        return false;
    }
    filter.iter().all(|(kind, wanted)| {
        let part = entity.iter().find(|(other, _)| other == kind);
        match (part, wanted) {
            (None, _) => false,
            (Some(_), Wanted::Any) => true,
            (Some((_, name)), Wanted::Named(wanted)) => name == wanted,
        }
    })
}

fn entry<'a>(
    entity: &QuotaEntity,
    values: impl Iterator<Item = (&'a String, &'a f64)>,
) -> EntryData {
    let entity = entity.iter().map(|(kind, name)| {
        EntityData::default()
            .with_entity_type(kind.clone().into())
            .with_entity_name(name.clone().map(KafkaString::from))
    });
    let values = values.map(|(key, value)| {
        ValueData::default()
            .with_key(key.clone().into())
            .with_value(*value)
    });
    EntryData::default()
        .with_entity(entity.collect())
        .with_values(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(kind: &'static str, match_type: i8, name: Option<&'static str>) -> ComponentData {
        ComponentData::default()
            .with_entity_type(KafkaString::from_static(kind))
            .with_match_type(match_type)
            .with_match(name.map(KafkaString::from_static))
    }

    fn code(components: &[ComponentData]) -> Option<ErrorCode> {
        filter(components).err().map(|refused| refused.code)
    }

    #[test]
    fn filters_are_refused_for_kafkas_reasons() {
        let user = || component(USER, EXACT, Some("a"));
        assert_eq!(code(&[user(), component(CLIENT_ID, DEFAULT, None)]), None);
        assert_eq!(code(&[component(IP, SPECIFIED, None)]), None);
        let unsupported = code(&[component("group", EXACT, Some("a"))]);
        assert_eq!(unsupported, Some(ErrorCode::UnsupportedVersion));
        let refused: [&[ComponentData]; 7] = [
            &[component("", EXACT, Some("a"))],
            &[user(), user()],
            &[user(), component(IP, EXACT, Some("10.0.0.1"))],
            &[component(USER, EXACT, None)],
            &[component(USER, DEFAULT, Some("a"))],
            &[component(USER, SPECIFIED, Some("a"))],
            &[component(USER, 9, Some("a"))],
        ];
        for components in refused {
            let code = code(components);
            assert_eq!(code, Some(ErrorCode::InvalidRequest), "{components:?}");
        }
    }

    #[test]
    fn an_entity_matches_by_name_by_default_and_by_type() {
        let entity = |user: Option<&str>| vec![(USER.to_owned(), user.map(str::to_owned))];
        let found = |component: ComponentData, entity: &QuotaEntity| {
            let filter = filter(&[component]).unwrap_or_default();
            matches(entity, &filter, true)
        };
        let (named, default) = (entity(Some("a")), entity(None));
        assert!(found(component(USER, EXACT, Some("a")), &named));
        assert!(!found(component(USER, EXACT, Some("b")), &named));
        assert!(found(component(USER, DEFAULT, None), &default));
        assert!(!found(component(USER, DEFAULT, None), &named));
        assert!(found(component(USER, SPECIFIED, None), &named));
        assert!(!found(component(IP, SPECIFIED, None), &named));
        assert!(!matches(&named, &Filter::new(), true), "strict");
        assert!(matches(&named, &Filter::new(), false));
    }
}
