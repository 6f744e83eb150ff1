//! Setting and releasing holds in one line.

use campaign_automation::proto::campaign::v1 as pb;
use campaign_automation::proto::campaign::v1::sending_service_client::SendingServiceClient;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::App;

/// Scopes of holds.
pub(crate) mod scope {
    use campaign_automation::proto::campaign::v1 as pb;
    use pb::sending_scope::Scope;

    fn of(scope: Scope) -> pb::SendingScope {
        pb::SendingScope { scope: Some(scope) }
    }

    pub(crate) fn all() -> pb::SendingScope {
        of(Scope::All(pb::AllSending {}))
    }

    pub(crate) fn channel(channel: pb::Channel) -> pb::SendingScope {
        of(Scope::Channel(channel.into()))
    }

    pub(crate) fn timeline(timeline: &pb::Timeline) -> pb::SendingScope {
        of(Scope::TimelineId(timeline.timeline_id))
    }

    pub(crate) fn campaign(id: &str) -> pb::SendingScope {
        of(Scope::CampaignId(id.to_owned()))
    }
}

impl App {
    pub(crate) fn sending(&self) -> SendingServiceClient<Channel> {
        SendingServiceClient::new(self.channel())
    }

    /// Holds until it is released.
    pub(crate) async fn hold(&self, scope: pb::SendingScope, reason: &str) -> pb::SendingHold {
        self.hold_until(scope, reason, None).await
    }

    /// Holds until an end.
    pub(crate) async fn hold_until(
        &self,
        scope: pb::SendingScope,
        reason: &str,
        end: Option<pb::set_sending_hold_request::End>,
    ) -> pb::SendingHold {
        let request = pb::SetSendingHoldRequest {
            scope: Some(scope),
            reason: reason.to_owned(),
            end,
            ..Default::default()
        };
        let response = self.sending().set_sending_hold(request).await.expect("a hold");
        response.into_inner().hold.expect("a hold")
    }

    /// Releases a hold, or is refused.
    pub(crate) async fn release(&self, scope: pb::SendingScope) -> Result<pb::SendingHold, Status> {
        let request = pb::ReleaseSendingHoldRequest {
            scope: Some(scope),
            ..Default::default()
        };
        let response = self.sending().release_sending_hold(request).await;
        Ok(response?.into_inner().hold.expect("a hold"))
    }

    /// The holds in force.
    pub(crate) async fn holds(&self) -> Vec<pb::SendingHold> {
        let request = pb::ListSendingHoldsRequest::default();
        let response = self.sending().list_sending_holds(request).await;
        response.map(Response::into_inner).expect("a page").holds
    }
}
