//! `campaigns`.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::batch::{Batch, Col};
use super::session::{Number, Session, values};
use super::{Page, StoreError, Txn};
use crate::domain::{ActionType, Campaign, CampaignId, CampaignKind, MailHeaders, Timestamp, Tracking};

const TABLE: &str = "campaigns";

const COLUMNS: &str = "c.id, c.name, c.subject, c.text_body, c.html_body, c.sms_text, c.call_script, c.kind, c.preheader, c.sender, c.reply_to, c.headers, c.track_opens, c.track_clicks, c.sms_max_segments, c.revision, c.created_at, c.updated_at";

#[derive(FromQueryResult)]
struct Row {
    id: String,
    name: String,
    subject: String,
    text_body: String,
    html_body: String,
    sms_text: String,
    call_script: String,
    kind: String,
    preheader: String,
    sender: String,
    reply_to: String,
    headers: serde_json::Value,
    track_opens: bool,
    track_clicks: bool,
    sms_max_segments: i32,
    revision: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(FromQueryResult)]
struct UseRow {
    slug: String,
    key: String,
    action_type: String,
}

impl<C: ConnectionTrait> Session<C> {
    /// A campaign.
    pub async fn campaign(&self, id: &CampaignId) -> Result<Option<Campaign>, StoreError> {
        let sql = format!("select {COLUMNS} from {TABLE} c where c.id = $1");
        self.row::<Row>(&sql, values![id.as_str()])
            .await?
            .map(Row::into_campaign)
            .transpose()
    }

    /// Several campaigns, in no order. Ids without one are left out.
    pub async fn campaigns_by_id(&self, ids: &[CampaignId]) -> Result<Vec<Campaign>, StoreError> {
        let mut batch = Batch::new(&[("id", Col::Text)]);
        for id in ids {
            batch.push([id.as_str().into()]);
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (table, values) = batch.bind(self.backend, 1);
        let sql = format!("select {COLUMNS} from {table} join {TABLE} c on c.id = u.id");
        self.rows::<Row>(&sql, values)
            .await?
            .into_iter()
            .map(Row::into_campaign)
            .collect()
    }

    /// A page of campaigns, by id.
    pub async fn campaigns(&self, page: &Page<String>) -> Result<Vec<Campaign>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from {TABLE} c where c.id > $1 order by c.id limit {}",
            page.size
        );
        let after = page.after.clone().unwrap_or_default();
        self.rows::<Row>(&sql, values![after])
            .await?
            .into_iter()
            .map(Row::into_campaign)
            .collect()
    }

    /// Where a campaign is used by timelines that are not archived: the timeline's slug, the action's key, and what the action does.
    pub async fn uses_of_campaign(&self, id: &CampaignId) -> Result<Vec<(String, String, ActionType)>, StoreError> {
        let sql = "select t.slug, a.key, a.action_type from campaign_timeline_actions a \
                   join campaign_timelines t on t.id = a.campaign_timeline_id \
                   where a.campaign_id = $1 and a.removed_at is null and t.archived_at is null order by t.slug, a.key";
        let rows: Vec<UseRow> = self.rows(sql, values![id.as_str()]).await?;
        rows.into_iter()
            .map(|row| {
                let action_type = ActionType::ALL
                    .into_iter()
                    .find(|known| known.as_str() == row.action_type);
                let action_type = action_type
                    .ok_or_else(|| StoreError::corrupt("campaign_timeline_actions", &row.key, &row.action_type))?;
                Ok((row.slug, row.key, action_type))
            })
            .collect()
    }
}

impl Txn {
    /// A campaign, locked against changes by others.
    pub async fn campaign_for_update(&self, id: &CampaignId) -> Result<Option<Campaign>, StoreError> {
        if self.layout.is_distributed() {
            self.take_number_of(id).await?;
            return self.campaign(id).await;
        }
        let sql = format!("select {COLUMNS} from {TABLE} c where c.id = $1 {}", self.for_update());
        self.row::<Row>(&sql, values![id.as_str()])
            .await?
            .map(Row::into_campaign)
            .transpose()
    }

    /// Stores a campaign's content: a new one with revision 1, or in place of the revision before. [`StoreError::Duplicate`]
    /// when somebody else was faster.
    pub async fn put_campaign(&self, campaign: &Campaign) -> Result<(), StoreError> {
        let sql = format!(
            "insert into {TABLE} (id, name, subject, text_body, html_body, sms_text, call_script, kind, preheader, sender, reply_to, headers, \
             track_opens, track_clicks, sms_max_segments, revision, created_at, updated_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
             on conflict (id) do update set name = excluded.name, subject = excluded.subject, text_body = excluded.text_body, \
             html_body = excluded.html_body, sms_text = excluded.sms_text, call_script = excluded.call_script, \
             kind = excluded.kind, preheader = excluded.preheader, sender = excluded.sender, reply_to = excluded.reply_to, headers = excluded.headers, \
             track_opens = excluded.track_opens, track_clicks = excluded.track_clicks, sms_max_segments = excluded.sms_max_segments, \
             revision = excluded.revision, updated_at = excluded.updated_at \
             where {TABLE}.revision = excluded.revision - 1 returning revision as n"
        );
        let headers = campaign
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.into()));
        let headers = serde_json::Value::Object(headers.collect());
        let values = values![
            campaign.id.as_str(),
            campaign.name.as_str(),
            campaign.subject.as_str(),
            campaign.text_body.as_str(),
            campaign.html_body.as_str(),
            campaign.sms_text.as_str(),
            campaign.call_script.as_str(),
            campaign.kind.as_str(),
            campaign.preheader.as_str(),
            campaign.sender.as_str(),
            campaign.reply_to.as_str(),
            headers,
            campaign.tracking.opens,
            campaign.tracking.clicks,
            i32::from(campaign.sms_max_segments),
            campaign.revision,
            campaign.created_at,
            campaign.updated_at,
        ];
        let stored: Option<Number> = self.row(&sql, values).await?;
        stored.map(|_| ()).ok_or(StoreError::Duplicate)
    }
}

impl Row {
    fn into_campaign(self) -> Result<Campaign, StoreError> {
        let id = CampaignId::parse(&self.id).map_err(|error| StoreError::corrupt(TABLE, &self.id, error))?;
        let kind = CampaignKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind);
        let kind = kind.ok_or_else(|| StoreError::corrupt(TABLE, &self.id, &self.kind))?;
        let serde_json::Value::Object(stored) = self.headers else {
            return Err(StoreError::corrupt(TABLE, &self.id, "headers are no object"));
        };
        let mut headers = MailHeaders::default();
        for (name, value) in &stored {
            let added = headers.add(name, value.as_str().unwrap_or_default());
            added.map_err(|error| StoreError::corrupt(TABLE, &self.id, error))?;
        }
        let segments = u8::try_from(self.sms_max_segments);
        let segments = segments.map_err(|error| StoreError::corrupt(TABLE, id.as_str(), error))?;
        Ok(Campaign {
            id,
            name: self.name,
            subject: self.subject,
            text_body: self.text_body,
            html_body: self.html_body,
            sms_text: self.sms_text,
            call_script: self.call_script,
            kind,
            preheader: self.preheader,
            sender: self.sender,
            reply_to: self.reply_to,
            headers,
            tracking: Tracking {
                opens: self.track_opens,
                clicks: self.track_clicks,
            },
            sms_max_segments: segments,
            revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}
