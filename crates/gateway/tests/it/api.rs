//! The APIs as a signing client sees them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::world::{World, package};

const FUNCTIONS: &str = "/2015-03-31/functions";
const ROLE: &str = "arn:aws:iam::123456789012:role/any";

async fn lambda(world: &World, method: Method, target: &str, body: &Value) -> crate::world::Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    world.signed("lambda", method, target, &[], &body).await
}

fn create(name: &str) -> Value {
    json!({
        "FunctionName": name,
        "Role": ROLE,
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Code": { "ZipFile": STANDARD.encode(package()) },
        "Tags": { "team": "a b" },
        "Environment": { "Variables": { "MODE": "test" } },
    })
}

async fn created(world: &World, name: &str) {
    let answer = lambda(world, Method::POST, FUNCTIONS, &create(name)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    world.active(name).await;
}

#[tokio::test]
async fn a_functions_life() {
    let world = World::new().await;
    let answer = lambda(&world, Method::POST, &format!("{FUNCTIONS}/"), &create("hello")).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    assert_eq!(
        (&made["State"], &made["StateReasonCode"], &made["Version"]),
        (&json!("Pending"), &json!("Creating"), &json!("$LATEST"))
    );
    assert_eq!((&made["Timeout"], &made["MemorySize"]), (&json!(3), &json!(128)));
    assert_eq!(made["Environment"], json!({ "Variables": { "MODE": "test" } }));
    assert!(!answer.header("x-amzn-requestid").is_empty());
    world.active("hello").await;

    let again = lambda(&world, Method::POST, FUNCTIONS, &create("hello")).await;
    assert_eq!((again.status, again.header("x-amzn-errortype")), (409, "ResourceConflictException"));

    let found = lambda(&world, Method::GET, &format!("{FUNCTIONS}/hello"), &Value::Null).await.json();
    assert_eq!(found["Configuration"]["State"], "Active");
    assert_eq!(found["Tags"], json!({ "team": "a b" }));
    assert_eq!(found["Code"]["RepositoryType"], "S3");
    let link = found["Code"]["Location"].as_str().unwrap();
    let base = format!("http://{}", world.address);
    let target = link.strip_prefix(&base).expect("the link leads here");
    let zip = world.call(Method::GET, target, &[], "").await;
    assert_eq!((zip.status, &zip.body[..]), (200, &package()[..]));
    for forged in [
        target.replace("hello", "other"),
        target.replace("Expires=1", "Expires=2"),
        target.replace("Signature=", "Signature=0"),
    ] {
        let refused = world.call(Method::GET, &forged, &[], "").await;
        assert_eq!(refused.status, 403, "{forged}");
        assert!(refused.text().contains("<Code>AccessDenied</Code>"));
    }

    let update = json!({ "Timeout": 9, "Unknown": { "x": 1 } });
    let updated = lambda(&world, Method::PUT, &format!("{FUNCTIONS}/hello/configuration"), &update).await;
    assert_eq!((updated.status, &updated.json()["Timeout"]), (200, &json!(9)), "{}", updated.text());

    let listed =
        lambda(&world, Method::GET, &format!("{FUNCTIONS}/?MaxItems=10000"), &Value::Null).await.json();
    assert_eq!(listed["Functions"][0]["FunctionName"], "hello");
    assert!(listed.get("NextMarker").is_none());

    let gone = lambda(&world, Method::DELETE, &format!("{FUNCTIONS}/hello"), &Value::Null).await;
    assert_eq!((gone.status, gone.text().as_str()), (204, ""));
    let missing = lambda(&world, Method::GET, &format!("{FUNCTIONS}/hello"), &Value::Null).await;
    assert_eq!((missing.status, missing.header("x-amzn-errortype")), (404, "ResourceNotFoundException"));
    assert!(
        missing.json()["Message"]
            .as_str()
            .unwrap()
            .starts_with("Function not found: arn:aws:lambda:us-east-1:")
    );
}

#[tokio::test]
async fn a_synchronous_call() {
    let world = World::new().await;
    created(&world, "hello").await;
    let invoke = |headers: &'static [(&'static str, &'static str)], body: &'static str| {
        let world = &world;
        async move {
            world
                .signed("lambda", Method::POST, "/2015-03-31/functions/hello/invocations", headers, body)
                .await
        }
    };
    let plain = invoke(&[], r#"{"a":1}"#).await;
    assert_eq!((plain.status, plain.text().as_str()), (200, r#"{"a":1}"#));
    assert_eq!(
        (plain.header("x-amz-executed-version"), plain.header("x-amz-function-error")),
        ("$LATEST", "")
    );
    assert!(!plain.headers.contains_key("x-amz-log-result"));

    let tailed = invoke(&[("x-amz-log-type", "Tail")], "1").await;
    let tail = String::from_utf8(STANDARD.decode(tailed.header("x-amz-log-result")).unwrap()).unwrap();
    let id = tailed.header("x-amzn-requestid");
    assert!(tail.contains(&format!("START RequestId: {id}")) && tail.contains("a line"), "{tail}");

    let failed = invoke(&[], r#""fail""#).await;
    assert_eq!((failed.status, failed.header("x-amz-function-error")), (200, "Unhandled"));
    assert_eq!(failed.json()["errorType"], "ValueError");

    let context = invoke(&[("x-amz-client-context", "eyJjdXN0b20iOnt9fQ==")], r#""context""#).await.json();
    assert_eq!(context["client"], r#"{"custom":{}}"#);
    assert_eq!(invoke(&[("x-amz-invocation-type", "DryRun")], "1").await.status, 204);
    let later = invoke(&[("x-amz-invocation-type", "Event")], "1").await;
    assert_eq!((later.status, later.text()), (202, String::new()));
    for (headers, body, status, code) in [
        (&[("x-amz-invocation-type", "Event")][..], "{", 400, "InvalidRequestContentException"),
        (&[("x-amz-invocation-type", "Soon")], "1", 400, "ValidationException"),
        (&[], "{nope", 400, "InvalidRequestContentException"),
    ] {
        let refused = invoke(headers, body).await;
        assert_eq!(
            (refused.status, refused.header("x-amzn-errortype")),
            (status, code),
            "{headers:?} {body}"
        );
    }
    let large = format!("\"{}\"", "x".repeat(6_291_556));
    let refused =
        world.signed("lambda", Method::POST, "/2015-03-31/functions/hello/invocations", &[], &large).await;
    assert_eq!((refused.status, refused.header("x-amzn-errortype")), (413, "RequestTooLargeException"));
}

#[tokio::test]
async fn versions_urls_and_tags() {
    let world = World::new().await;
    created(&world, "hello").await;
    let published = lambda(&world, Method::POST, &format!("{FUNCTIONS}/hello/versions"), &json!({})).await;
    assert_eq!((published.status, &published.json()["Version"]), (201, &json!("1")), "{}", published.text());
    let versions =
        lambda(&world, Method::GET, &format!("{FUNCTIONS}/hello/versions"), &Value::Null).await.json();
    let versions: Vec<&str> =
        versions["Versions"].as_array().unwrap().iter().map(|v| v["Version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["$LATEST", "1"]);
    let by_query =
        lambda(&world, Method::GET, &format!("{FUNCTIONS}/hello/configuration?Qualifier=1"), &Value::Null)
            .await;
    assert!(by_query.json()["FunctionArn"].as_str().unwrap().ends_with(":function:hello:1"));

    let urls = "/2021-10-31/functions/hello/url";
    assert_eq!(
        lambda(&world, Method::GET, "/2021-10-31/functions/hello/urls", &Value::Null).await.json(),
        json!({ "FunctionUrlConfigs": [] })
    );
    let made =
        lambda(&world, Method::POST, urls, &json!({ "AuthType": "NONE", "Cors": { "AllowOrigins": ["*"] } }))
            .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let url = made.json()["FunctionUrl"].as_str().unwrap().to_owned();
    let port = world.address.port();
    assert!(url.ends_with(&format!(".lambda-url.us-east-1.localhost:{port}/")), "{url}");
    assert!(made.json().get("LastModifiedTime").is_none());
    assert_eq!(made.json()["virgaPathUrl"], format!("http://127.0.0.1:{port}/_fn/hello/"));
    let host = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let request = http::Request::get("/x").header("host", host).body(bytes::Bytes::new()).unwrap();
    assert_eq!(world.send(request).await.json()["rawPath"], "/x", "the URL leads to the function");
    let changed = lambda(&world, Method::PUT, urls, &json!({ "Cors": { "MaxAge": 5 } })).await.json();
    assert_eq!((&changed["Cors"], &changed["InvokeMode"]), (&json!({ "MaxAge": 5 }), &json!("BUFFERED")));
    let listed = lambda(&world, Method::GET, "/2021-10-31/functions/hello/urls", &Value::Null).await.json();
    assert_eq!(listed["FunctionUrlConfigs"][0]["FunctionUrl"], url.as_str());
    let iam = lambda(&world, Method::PUT, urls, &json!({ "AuthType": "AWS_IAM" })).await;
    assert_eq!((iam.status, &iam.json()["AuthType"]), (200, &json!("AWS_IAM")));
    assert_eq!(lambda(&world, Method::DELETE, urls, &Value::Null).await.status, 204);

    let arn = format!("arn:aws:lambda:us-east-1:{}:function:hello", world.caller.account);
    let tags = format!("/2017-03-31/tags/{}", arn.replace(':', "%3A"));
    assert_eq!(lambda(&world, Method::POST, &tags, &json!({ "Tags": { "k": "v" } })).await.status, 204);
    assert_eq!(
        lambda(&world, Method::DELETE, &format!("{tags}?tagKeys=team&tagKeys=none"), &Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        lambda(&world, Method::GET, &tags, &Value::Null).await.json(),
        json!({ "Tags": { "k": "v" } })
    );
    let settings = lambda(&world, Method::GET, "/2016-08-19/account-settings", &Value::Null).await.json();
    assert_eq!(settings["AccountUsage"]["FunctionCount"], 1);
}

#[tokio::test]
async fn requests_that_break_the_model_are_refused_in_its_words() {
    let world = World::new().await;
    let with = |member: &str, value: Value| {
        let mut body = create("hello");
        body[member] = value;
        body
    };
    let cases = [
        (
            with("FunctionName", json!("a b")),
            400,
            "ValidationException",
            "Member must satisfy regular expression pattern",
        ),
        (with("Role", Value::Null), 400, "ValidationException", "Value null at 'role'"),
        (with("Timeout", json!("3")), 400, "SerializationException", "can not be converted to an Integer"),
        (with("MemorySize", json!(1)), 400, "ValidationException", "'memorySize'"),
        (with("Code", json!({})), 400, "InvalidParameterValueException", "source for function code"),
        (with("Code", json!({ "ZipFile": "bm90IGEgemlw" })), 400, "InvalidParameterValueException", ""),
        (with("Runtime", json!("cobol")), 400, "InvalidParameterValueException", ""),
        (
            with("VpcConfig", json!({ "SubnetIds": ["s"] })),
            400,
            "InvalidParameterValueException",
            "VpcConfig is not supported",
        ),
        (
            with("Tags", json!({ "virga:nonsense": "1" })),
            400,
            "InvalidParameterValueException",
            "virga:nonsense",
        ),
    ];
    for (body, status, code, message) in cases {
        let answer = lambda(&world, Method::POST, FUNCTIONS, &body).await;
        assert_eq!((answer.status, answer.header("x-amzn-errortype")), (status, code), "{}", answer.text());
        assert!(answer.text().contains(message), "{}", answer.text());
    }
    let listed = lambda(&world, Method::GET, FUNCTIONS, &Value::Null).await.json();
    assert_eq!(listed, json!({ "Functions": [] }), "nothing is left behind");
}

#[tokio::test]
async fn strangers_are_turned_away_in_the_services_words() {
    let world = World::new().await;
    let unsigned = world.call(Method::GET, FUNCTIONS, &[], "").await;
    assert_eq!(
        (unsigned.status, unsigned.header("x-amzn-errortype")),
        (403, "MissingAuthenticationTokenException")
    );
    let mut unknown = world.credentials.clone();
    unknown.access_key_id = "AKIAIOSFODNN7EXAMPLE".into();
    let mut wrong = world.credentials.clone();
    wrong.secret_access_key.push('x');
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let target = [("x-amz-target", "Logs_20140328.DescribeLogGroups")];
    for (credentials, service, headers, status, code) in [
        (&unknown, "lambda", &[][..], 403, "UnrecognizedClientException"),
        (&wrong, "lambda", &[], 403, "InvalidSignatureException"),
        (&unknown, "logs", &target, 400, "UnrecognizedClientException"),
        (&wrong, "logs", &target, 400, "InvalidSignatureException"),
        (&unknown, "sts", &form, 403, "<Code>InvalidClientTokenId</Code>"),
        (&wrong, "sts", &form, 403, "<Code>SignatureDoesNotMatch</Code>"),
        (&unknown, "s3", &[], 403, "<Code>InvalidAccessKeyId</Code>"),
    ] {
        let (method, path) = if service == "lambda" { (Method::GET, FUNCTIONS) } else { (Method::POST, "/") };
        let request = world.sign(credentials, service, method, path, headers, "");
        let answer = world.send(request).await;
        assert_eq!(answer.status, status, "{service} {}", answer.text());
        assert!(
            answer.text().contains(code) || answer.header("x-amzn-errortype") == code,
            "{service} {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn who_am_i_and_what_is_not_here() {
    let world = World::new().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let identity =
        world.signed("sts", Method::POST, "/", &form, "Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!(identity.status, 200, "{}", identity.text());
    let account = world.caller.account.as_str();
    assert!(
        identity.text().contains(&format!("<Arn>arn:aws:iam::{account}:user/admin</Arn>")),
        "{}",
        identity.text()
    );
    assert!(identity.text().contains(&format!("<Account>{account}</Account>")));

    let user = world.signed("iam", Method::POST, "/", &form, "Action=CreateUser&UserName=u").await;
    assert_eq!(user.status, 400);
    assert!(
        user.text().contains("<Code>InvalidAction</Code>") && user.text().contains("CreateUser"),
        "{}",
        user.text()
    );
    let bucket = world.signed("s3", Method::PUT, "/bucket", &[], "").await;
    assert_eq!(bucket.status, 501);
    assert!(bucket.text().contains("<Code>NotImplemented</Code>"), "{}", bucket.text());
    let json = ("content-type", "application/x-amz-json-1.0");
    let states = [("x-amz-target", "AWSStepFunctions.ListActivities"), json];
    let absent = world.signed("states", Method::POST, "/", &states, "{}").await;
    assert_eq!((absent.status, &absent.json()["__type"]), (400, &json!("UnknownOperationException")));
    assert!(absent.text().contains("ListActivities"));
    // A service that was spoken to in forms before JSON: its errors have both names.
    let sqs = [("x-amz-target", "AmazonSQS.GetQueueUrl"), json];
    let queue = world.signed("sqs", Method::POST, "/", &sqs, r#"{"QueueName":"none"}"#).await;
    assert_eq!((queue.status, &queue.json()["__type"]), (400, &json!("QueueDoesNotExist")));
    assert_eq!(queue.header("x-amzn-query-error"), "AWS.SimpleQueueService.NonExistentQueue;Sender");
    let providers = lambda(&world, Method::GET, "/2025-11-30/capacity-providers", &Value::Null).await;
    assert_eq!((providers.status, providers.header("x-amzn-errortype")), (501, "NotImplementedException"));
    assert!(providers.text().contains("ListCapacityProviders"));
}

#[tokio::test]
async fn logs_are_read_and_followed() {
    let world = World::new().await;
    created(&world, "hello").await;
    let logs = |operation: &str, body: Value| {
        let target = format!("Logs_20140328.{operation}");
        let world = &world;
        async move {
            world.signed("logs", Method::POST, "/", &[("x-amz-target", &target)], &body.to_string()).await
        }
    };
    let group = "/aws/lambda/hello";
    let early = logs("FilterLogEvents", json!({ "logGroupName": "/aws/lambda/none" })).await;
    assert_eq!((early.status, &early.json()["__type"]), (400, &json!("ResourceNotFoundException")));
    let invoke = || lambda(&world, Method::POST, "/2015-03-31/functions/hello/invocations", &Value::Null);
    invoke().await;
    let page = logs("FilterLogEvents", json!({ "logGroupName": group })).await.json();
    let messages = |page: &Value| -> Vec<String> {
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(messages(&page).iter().any(|line| line == "a line"), "{page}");
    assert!(page.get("nextToken").is_none());
    invoke().await;
    let resume = json!({ "logGroupName": group, "nextToken": page["virgaResume"] });
    let next = logs("FilterLogEvents", resume).await.json();
    assert_eq!(
        messages(&next).iter().filter(|line| *line == "a line").count(),
        1,
        "only what is new: {next}"
    );

    let groups = logs("DescribeLogGroups", json!({ "logGroupNamePrefix": "/aws/lambda/" })).await.json();
    assert_eq!(groups["logGroups"][0]["logGroupName"], group);
    let streams =
        logs("DescribeLogStreams", json!({ "logGroupName": group, "orderBy": "LastEventTime" })).await.json();
    let stream = streams["logStreams"][0]["logStreamName"].clone();
    let read = json!({ "logGroupName": group, "logStreamName": stream, "limit": 2 });
    let last = logs("GetLogEvents", read).await.json();
    assert_eq!(last["events"].as_array().unwrap().len(), 2);
    assert!(messages(&last)[1].starts_with("REPORT"), "the last lines: {last}");
    let token = last["nextForwardToken"].clone();
    let read = json!({ "logGroupName": group, "logStreamName": stream, "nextToken": token });
    let end = logs("GetLogEvents", read).await.json();
    assert_eq!((&end["events"], &end["nextForwardToken"]), (&json!([]), &token), "the end is the end");
    let absent = logs("GetLogEvents", json!({ "logGroupName": group, "logStreamName": "none" })).await;
    assert_eq!((absent.status, &absent.json()["__type"]), (400, &json!("ResourceNotFoundException")));
    let early = json!({ "logGroupName": group, "logStreamName": stream, "endTime": 1 });
    assert_eq!(logs("GetLogEvents", early).await.json()["events"], json!([]));
    let filtered = logs("FilterLogEvents", json!({ "logGroupName": group, "filterPattern": "ERROR" })).await;
    assert_eq!((filtered.status, &filtered.json()["events"]), (200, &json!([])));
}
