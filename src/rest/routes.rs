//! The routes: which method of the contract a path and an HTTP method mean, by the `google.api.http` options in the descriptors.

use http::Method;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use std::borrow::Cow;

use super::template::{RequestPath, Template};
use crate::telemetry::RouteTemplate;

/// What all routes are below. What else is served on the port (`/u/`, `/callbacks/`, `/campaign.v1.…`) is not.
pub(super) const PREFIX: &str = "/api/";

/// The package whose services have routes.
const PACKAGE: &str = "campaign.v1";

/// Whence a request takes what is neither in its path nor in its query.
#[derive(Debug, Clone)]
pub(super) enum BodyOf {
    /// There is no body: fields come in the query.
    Nothing,
    /// The whole request, but for what is in the path.
    All,
    /// One field. The others come in the query.
    Field(FieldDescriptor),
}

/// A route.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) http: Method,
    pub(super) template: Template,
    /// The template as it is written.
    pub(super) text: RouteTemplate,
    /// The fields of the path, in order, each as the fields that lead to it.
    pub(super) fields: Vec<Vec<FieldDescriptor>>,
    pub(super) body: BodyOf,
    pub(super) rpc: MethodDescriptor,
    /// How many routes the method has before this one.
    pub(super) number: usize,
}

/// All routes.
#[derive(Debug)]
pub(super) struct Routes {
    /// The first that matches is meant.
    all: Vec<Route>,
}

/// What a path and a method mean.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A route, and the values of its path.
    Route(&'a Route, Vec<String>),
    /// The path is known, with these methods.
    OtherMethods(Vec<&'a Method>),
    /// Nothing is there.
    Nothing,
}

impl Routes {
    /// The routes of the contract. What is not as it should be there is an error, so that no server starts with half of them.
    pub(super) fn of(pool: &DescriptorPool) -> Result<Self, String> {
        let option = pool
            .get_extension_by_name("google.api.http")
            .ok_or("google.api.http is not among the descriptors")?;
        let mut all = Vec::new();
        for service in pool.services().filter(|service| service.package_name() == PACKAGE) {
            for rpc in service.methods() {
                let options = rpc.options();
                let rule = options.get_extension(&option);
                let rule = rule.as_message().filter(|_| options.has_extension(&option));
                match rule {
                    Some(rule) => add(&mut all, &rpc, rule)?,
                    // A stream may do without one.
                    None if rpc.is_server_streaming() || rpc.is_client_streaming() => {}
                    None => return Err(format!("{} has no google.api.http", rpc.full_name())),
                }
            }
        }
        all.sort_by(|a, b| a.template.shape().cmp(&b.template.shape()));
        for (at, route) in all.iter().enumerate() {
            let same = |other: &&Route| other.http == route.http && other.template.shape() == route.template.shape();
            if let Some(other) = all[at + 1..].iter().find(same) {
                let (a, b) = (route.rpc.full_name(), other.rpc.full_name());
                return Err(format!("{a} and {b} have the same path"));
            }
        }
        Ok(Self { all })
    }

    /// All routes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.all.iter()
    }

    /// What a path and a method mean.
    pub(super) fn find(&self, method: &Method, path: &RequestPath) -> Found<'_> {
        let asked = if method == Method::HEAD { &Method::GET } else { method };
        let fitting: Vec<&Route> = self
            .all
            .iter()
            .filter(|route| route.template.matches(path).is_some())
            .collect();
        // What ends as a verb does is a path of that verb, whatever the method: `/customers/anna:erase` is nobody's id. An id
        // that looks so is written with `%3A`.
        let is_verb = fitting.iter().any(|route| route.template.has_verb());
        let mut others: Vec<&Method> = Vec::new();
        for route in fitting.into_iter().filter(|route| route.template.has_verb() == is_verb) {
            if route.http == *asked {
                let values = route.template.matches(path).unwrap_or_default();
                return Found::Route(route, values);
            }
            if !others.contains(&&route.http) {
                others.push(&route.http);
            }
        }
        if others.is_empty() {
            Found::Nothing
        } else {
            Found::OtherMethods(others)
        }
    }
}

/// Adds the routes of one rule.
fn add(all: &mut Vec<Route>, rpc: &MethodDescriptor, rule: &DynamicMessage) -> Result<(), String> {
    let name = rpc.full_name();
    if rpc.is_client_streaming() {
        return Err(format!("{name} takes a stream, which has no form in REST"));
    }
    all.push(route(rpc, rule, 0)?);
    let more = rule.get_field_by_name("additional_bindings");
    let more = more.as_deref().and_then(|more| more.as_list()).unwrap_or_default();
    for (at, rule) in more.iter().enumerate() {
        let rule = rule
            .as_message()
            .ok_or_else(|| format!("{name} has a binding that is none"))?;
        all.push(route(rpc, rule, at + 1)?);
    }
    Ok(())
}

fn route(rpc: &MethodDescriptor, rule: &DynamicMessage, number: usize) -> Result<Route, String> {
    let wrong = |what: String| format!("{}: {what}", rpc.full_name());
    let text = |field: &str| {
        let value = rule.get_field_by_name(field).map(Cow::into_owned);
        let text = value.as_ref().and_then(|value| value.as_str()).unwrap_or_default();
        text.to_owned()
    };
    let patterns = [
        (Method::GET, "get"),
        (Method::PUT, "put"),
        (Method::POST, "post"),
        (Method::DELETE, "delete"),
        (Method::PATCH, "patch"),
    ];
    let (http, path) = patterns
        .into_iter()
        .map(|(http, field)| (http, text(field)))
        .find(|(_, path)| !path.is_empty())
        .ok_or_else(|| wrong("there is no path, or one of another method".to_owned()))?;
    if !path.starts_with(PREFIX) {
        return Err(wrong(format!("{path} is not below {PREFIX}")));
    }
    if !text("response_body").is_empty() {
        return Err(wrong("response_body is not supported".to_owned()));
    }
    let template = Template::parse(&path).map_err(wrong)?;
    let request = rpc.input();
    let fields = template
        .fields()
        .map(|field| path_field(&request, field).map_err(wrong))
        .collect::<Result<_, _>>()?;
    let body = match text("body").as_str() {
        "" => BodyOf::Nothing,
        "*" => BodyOf::All,
        field => match request.get_field_by_name(field) {
            Some(field) => BodyOf::Field(field),
            None => return Err(wrong(format!("the body is {field}, which is no field"))),
        },
    };
    if matches!(http, Method::GET | Method::DELETE) && !matches!(body, BodyOf::Nothing) {
        return Err(wrong(format!("{http} has no body")));
    }
    Ok(Route {
        http,
        template,
        text: RouteTemplate(path.into()),
        fields,
        body,
        rpc: rpc.clone(),
        number,
    })
}

/// The fields that lead to the field of a path, which must be one value that a segment can hold.
fn path_field(request: &MessageDescriptor, path: &str) -> Result<Vec<FieldDescriptor>, String> {
    let (mut message, mut fields) = (Some(request.clone()), Vec::new());
    for name in path.split('.') {
        let field = message.and_then(|message| message.get_field_by_name(name));
        let field = field.ok_or_else(|| format!("{path} in the path is no field"))?;
        message = field.kind().as_message().filter(|_| !field.is_list()).cloned();
        fields.push(field);
    }
    let is_value = fields
        .last()
        .is_some_and(|last| !last.is_list() && !matches!(last.kind(), Kind::Message(_)));
    if !is_value {
        return Err(format!("{path} in the path is no single value"));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::FILE_DESCRIPTOR_SET;

    fn pool() -> DescriptorPool {
        DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors")
    }

    #[track_caller]
    fn check(method: &Method, path: &str, expected: &str) {
        let routes = Routes::of(&pool()).expect("routes");
        let path = RequestPath::parse(path).expect("a path");
        let found = match routes.find(method, &path) {
            Found::Route(route, values) => format!("{} {}", route.rpc.name(), values.join(" ")),
            Found::OtherMethods(methods) => {
                let mut methods: Vec<&str> = methods.into_iter().map(Method::as_str).collect();
                methods.sort_unstable();
                format!("only {}", methods.join(" "))
            }
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(found.trim_end(), expected, "{method} {path:?}");
    }

    #[test]
    fn paths_mean_the_methods_of_the_contract() {
        check(&Method::POST, "/api/v1/customers/anna/timelines", "StartTimeline anna");
        check(
            &Method::GET,
            "/api/v1/customers/anna/timeline-progress",
            "GetProgress anna",
        );
        check(
            &Method::HEAD,
            "/api/v1/customers/anna/timeline-progress/7",
            "GetProgress anna 7",
        );
        check(
            &Method::POST,
            "/api/v1/customers/anna/timeline-progress/7/pause",
            "PauseTimeline anna 7",
        );
        check(&Method::POST, "/api/v1/customers/crm:7:erase", "EraseCustomer crm:7");
        check(&Method::GET, "/api/v1/customers/crm:7", "GetCustomer crm:7");
        check(&Method::GET, "/api/v1/customers/crm:erase", "only POST");
        check(&Method::GET, "/api/v1/customers/crm%3Aerase", "GetCustomer crm:erase");
        check(&Method::GET, "/api/v1/timelines:bySlug", "GetTimeline");
        check(&Method::DELETE, "/api/v1/customers/anna", "only GET");
        check(&Method::PUT, "/api/v1/suppressions", "only GET POST");
        check(&Method::GET, "/api/v1/nothing", "nothing");
        check(&Method::GET, "/api/v1/customers/anna/", "nothing");
    }

    /// The contract with another option on one method.
    fn changed(change: impl FnOnce(&mut DynamicMessage)) -> Result<Routes, String> {
        let pool = pool();
        let option = pool.get_extension_by_name("google.api.http").expect("the option");
        let set = pool
            .get_message_by_name("google.protobuf.FileDescriptorSet")
            .expect("descriptors");
        let mut set = DynamicMessage::decode(set, FILE_DESCRIPTOR_SET).expect("descriptors");
        let files = set.get_field_by_name_mut("file").and_then(|files| files.as_list_mut());
        let file = files
            .expect("files")
            .iter_mut()
            .filter_map(|file| file.as_message_mut())
            .find(|file| {
                file.get_field_by_name("name")
                    .is_some_and(|name| name.as_str() == Some("campaign/v1/content_service.proto"))
            });
        let services = file
            .expect("the file")
            .get_field_by_name_mut("service")
            .expect("services");
        let service = services.as_list_mut().expect("services")[0]
            .as_message_mut()
            .expect("a service");
        let methods = service
            .get_field_by_name_mut("method")
            .and_then(|methods| methods.as_list_mut());
        let method = methods.expect("methods")[1].as_message_mut().expect("a method");
        let options = method
            .get_field_by_name_mut("options")
            .and_then(|options| options.as_message_mut());
        change(
            options
                .expect("options")
                .get_extension_mut(&option)
                .as_message_mut()
                .expect("a rule"),
        );
        let bytes = prost::Message::encode_to_vec(&set);
        Routes::of(&DescriptorPool::decode(bytes.as_slice()).expect("descriptors"))
    }

    #[test]
    fn a_contract_that_can_t_be_served_is_refused() {
        let get = |path: &'static str| {
            move |rule: &mut DynamicMessage| {
                rule.set_field_by_name("get", prost_reflect::Value::String(path.to_owned()));
            }
        };
        changed(get("/api/v1/contents/{campaign_id}")).expect("good");
        for (path, what) in [
            ("", "there is no path"),
            ("/u/{campaign_id}", "is not below /api/"),
            ("/api/v1/contents/{id}", "id in the path is no field"),
            ("/api/v1/customers/{campaign_id}", "have the same path"),
            ("/api/v1/contents/{campaign_id=a/*}", "is no path template"),
        ] {
            let error = changed(get(path)).expect_err(path);
            assert!(error.contains(what), "{error}");
        }
        let text = |text: &str| prost_reflect::Value::String(text.to_owned());
        let error = changed(|rule| rule.set_field_by_name("body", text("*"))).expect_err("a body");
        assert!(error.contains("GET has no body"), "{error}");
        let error = changed(|rule| rule.set_field_by_name("response_body", text("x"))).expect_err("a part");
        assert!(error.contains("response_body"), "{error}");
    }
}
