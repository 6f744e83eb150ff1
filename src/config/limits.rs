//! What is sent at most, and when a channel is left alone.

use clap::Args;
use std::time::Duration;

use super::values::duration;
use crate::domain::{Channel, EmailAddress, Rate, RateLimits};

/// Limits of channels.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// After how many failures in a row that one server sees a channel is stopped; 0: never. What a provider says about a single
    /// message is no failure. A misconfigured channel is stopped at once.
    #[arg(long, env = "CAMPAIGN_CHANNEL_FAILURES", value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub channel_failures: u32,
    /// The longest pause of a channel that is stopped. The first is `--channel-probe`, and each is twice as long as the one before.
    #[arg(long, env = "CAMPAIGN_CHANNEL_PROBE_CAP", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub channel_probe_cap: Duration,
    /// How many mails begin at most on all servers together, as in `10/s`, `600/m`, `3000/h` or `5000/d`. At once go those of
    /// a second, one at least. Default: no limit.
    #[arg(long, env = "CAMPAIGN_EMAIL_RATE", value_name = "RATE", value_parser = rate)]
    pub email_rate: Option<Rate>,
    /// How many mails begin at most for each domain of recipients, as in `example.com=5/s,*=20/s`; `*` is each other domain.
    #[arg(long, env = "CAMPAIGN_EMAIL_DOMAIN_RATE", value_name = "DOMAIN=RATE", value_delimiter = ',', value_parser = domain_rate)]
    pub email_domain_rate: Vec<(String, Rate)>,
    /// How many text messages begin at most.
    #[arg(long, env = "CAMPAIGN_SMS_RATE", value_name = "RATE", value_parser = rate)]
    pub sms_rate: Option<Rate>,
    /// How many calls begin at most.
    #[arg(long, env = "CAMPAIGN_PHONE_RATE", value_name = "RATE", value_parser = rate)]
    pub phone_rate: Option<Rate>,
    /// How many tasks begin at most.
    #[arg(long, env = "CAMPAIGN_INTERACTION_RATE", value_name = "RATE", value_parser = rate)]
    pub interaction_rate: Option<Rate>,
}

impl LimitArgs {
    /// How much is sent at most.
    pub fn rates(&self) -> RateLimits {
        let channels = [
            (Channel::Email, self.email_rate),
            (Channel::Sms, self.sms_rate),
            (Channel::Phone, self.phone_rate),
            (Channel::Interaction, self.interaction_rate),
        ];
        RateLimits {
            channels: channels
                .into_iter()
                .filter_map(|(channel, rate)| Some((channel, rate?)))
                .collect(),
            domains: self.email_domain_rate.iter().cloned().collect(),
        }
    }
}

fn rate(given: &str) -> Result<Rate, String> {
    Rate::parse(given).map_err(|error| error.to_string())
}

fn domain_rate(given: &str) -> Result<(String, Rate), String> {
    let (domain, given) = given
        .split_once('=')
        .ok_or_else(|| "must be a domain and its rate, such as example.com=5/s, or *=20/s".to_owned())?;
    let domain = domain.to_ascii_lowercase();
    if domain != "*" && EmailAddress::parse(&format!("a@{domain}")).is_err() {
        return Err("must begin with a domain such as example.com, or *".to_owned());
    }
    Ok((domain, rate(given)?))
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use crate::domain::{Channel, Rate};
    use clap::Parser as _;

    #[test]
    fn rates_are_read_from_flags() {
        let cli = Cli::try_parse_from([
            "campaignd",
            "--email-rate=10/s",
            "--sms-rate=600/m",
            "--email-domain-rate=Example.com=5/s,*=20/s",
        ]);
        let rates = cli.expect("flags").config.limits.rates();
        let rate = |text| Rate::parse(text).expect("a rate");
        assert_eq!(
            rates.channels,
            [(Channel::Email, rate("10/s")), (Channel::Sms, rate("600/m"))].into()
        );
        assert_eq!(
            rates.domains,
            [("example.com".to_owned(), rate("5/s")), ("*".to_owned(), rate("20/s"))].into()
        );
        for (bad, part) in [
            ("--email-rate=10", "10/s"),
            ("--phone-rate=0/s", "10/s"),
            ("--email-domain-rate=example.com", "example.com=5/s"),
            ("--email-domain-rate=no domain=5/s", "a domain"),
            ("--email-domain-rate=*=5", "10/s"),
        ] {
            let error = Cli::try_parse_from(["campaignd", bad]).expect_err(bad).to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
