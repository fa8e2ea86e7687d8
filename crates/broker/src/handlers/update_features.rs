//! `UpdateFeatures` (key 57), versions 0 to 2.
//!
//! - 1: the kind of change; validation only. 2: one result for all features, as all succeed or fail together.

use ottla_controller::features::{Update, UpgradeType};
use ottla_controller::request::UpdateFeatures;
use ottla_protocol::messages::update_features_request::FeatureUpdateKey;
use ottla_protocol::messages::update_features_response::UpdatableFeatureResult;
use ottla_protocol::messages::{ErrorCode, UpdateFeaturesRequestData, UpdateFeaturesResponseData};

use crate::broker::Broker;
use crate::cluster::registration;
use crate::context::RequestContext;

/// The last version with a result for each feature.
const LAST_WITH_RESULTS: i16 = 1;

/// Changes the levels of features, all of them or none.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: UpdateFeaturesRequestData,
) -> UpdateFeaturesResponseData {
    let quorum = broker.quorum.get();
    let kraft_version = quorum.map_or(0, |quorum| quorum.borrow().kraft_version);
    let asked = UpdateFeatures {
        node: broker.config.node_id,
        supported: registration::supported_features(&broker.controller.image()),
        kraft_version,
        updates: request.feature_updates.iter().map(update).collect(),
        validate_only: request.validate_only,
    };
    let decided = broker.controller.ask_here(asked).await;
    let response = UpdateFeaturesResponseData::default();
    match decided {
        Ok(Ok(())) if context.version <= LAST_WITH_RESULTS => {
            let names = request.feature_updates.into_iter();
            let results =
                names.map(|update| UpdatableFeatureResult::default().with_feature(update.feature));
            response.with_results(results.collect())
        }
        Ok(Ok(())) => response,
        Ok(Err(refusal)) => {
            let message = format!(
                "The update failed for all features since the following feature had an error: {refusal}"
            );
            response
                .with_error_code(refusal.code().code())
                .with_error_message(Some(message.into()))
        }
        Err(_) => response.with_error_code(ErrorCode::NotController.code()),
    }
}

fn update(wanted: &FeatureUpdateKey) -> Update {
    Update {
        feature: wanted.feature.as_str().to_owned(),
        level: wanted.max_version_level,
        upgrade_type: match wanted.upgrade_type {
            1 => UpgradeType::Upgrade,
            2 => UpgradeType::SafeDowngrade,
            3 => UpgradeType::UnsafeDowngrade,
            _ => UpgradeType::Unknown,
        },
    }
}
