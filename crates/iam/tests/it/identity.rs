//! Keys on disk, sessions and links.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base::{FunctionArn, Timestamp};
use iam::{AuthError, Bootstrap, Caller, Error, Principal};

use crate::support::{ACCOUNT, Home, KEY_ID, NOW, SECRET, bootstrap, head, signed, verify};

const ROLE: &str = "arn:aws:iam::123456789012:role/nobody-made-it";

fn function() -> FunctionArn {
    FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST").unwrap()
}

#[test]
fn first_start_makes_an_admin_that_later_starts_find() {
    let home = Home::new();
    let made = home.open(Bootstrap::default()).unwrap();
    let keys = made.first_credentials();
    assert!(keys.access_key_id.starts_with("AKIA") && keys.access_key_id.len() == 20);
    assert_eq!(keys.secret_access_key.len(), 40);
    assert_eq!(fs::metadata(home.key_file()).unwrap().permissions().mode() & 0o777, 0o600);

    let found = home.open(bootstrap()).unwrap();
    assert_eq!(found.first_account(), made.first_account(), "bootstrap values are for new databases only");
    assert_eq!(found.first_credentials().access_key_id, keys.access_key_id);
    assert_eq!(found.first_credentials().secret_access_key, keys.secret_access_key);
}

#[test]
fn given_values_become_the_first_accounts() {
    let home = Home::new();
    let iam = home.iam();
    assert_eq!(iam.first_account().as_str(), ACCOUNT);
    assert_eq!(iam.first_credentials().secret_access_key, SECRET);
    let head = signed(head("GET", "http://localhost/", &[]), b"", &iam.first_credentials(), "lambda");
    let caller = verify(&iam, &head, b"").unwrap();
    assert_eq!(caller.arn(), "arn:aws:iam::123456789012:user/admin");
}

#[test]
fn bad_values_leave_nothing_that_hinders_the_next_start() {
    let home = Home::new();
    let bad = Bootstrap { access_key_id: Some("short".into()), ..Bootstrap::default() };
    assert!(matches!(home.open(bad), Err(Error::Bootstrap(_))));
    home.iam();
}

#[test]
fn secrets_are_not_in_the_database() {
    let home = Home::new();
    let iam = home.iam();
    assert!(!format!("{:?}", iam.first_credentials()).contains(SECRET));
    // While the database is open: its threads put its log away some time after they were let go.
    for entry in fs::read_dir(home.dir.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
}

#[test]
fn a_lost_or_wrong_key_file_is_said_and_not_replaced() {
    let home = Home::new();
    home.iam();
    let key = fs::read(home.key_file()).unwrap();
    fs::remove_file(home.key_file()).unwrap();
    assert!(matches!(home.open(bootstrap()), Err(Error::Key(text)) if text.contains("missing")));
    assert!(!home.key_file().exists());
    fs::write(home.key_file(), [1; 32]).unwrap();
    assert!(matches!(home.open(bootstrap()), Err(Error::Key(text)) if text.contains("not the one")));
    fs::write(home.key_file(), b"short").unwrap();
    assert!(matches!(home.open(bootstrap()), Err(Error::Key(text)) if text.contains("32 bytes")));
    fs::write(home.key_file(), key).unwrap();
    home.iam();
}

#[test]
fn functions_have_sessions_that_end() {
    let home = Home::new();
    let iam = home.iam();
    let session = iam.function_session(&function(), ROLE, Duration::from_secs(60));
    assert!(session.access_key_id.starts_with("ASIA"));
    assert_eq!(session.expires, Some(Timestamp(NOW.as_millis() + 60_000)));
    let request = || signed(head("GET", "http://localhost/x", &[]), b"", &session, "lambda");
    let caller = verify(&iam, &request(), b"").unwrap();
    assert!(matches!(&caller.principal, Principal::Session(session) if session.function == Some(function())));
    assert_eq!(caller.arn(), "arn:aws:sts::123456789012:assumed-role/nobody-made-it/hello");
    assert!(!caller.may("lambda:InvokeFunction", &function().to_string()));
    // Stateless: a server that starts anew knows it too.
    assert!(verify(&home.iam(), &request(), b"").is_ok());

    home.clock.advance(59_999);
    assert!(verify(&iam, &request(), b"").is_ok());
    home.clock.advance(1);
    assert!(matches!(verify(&iam, &request(), b""), Err(AuthError::Expired(_))));
}

#[test]
fn session_tokens_work_with_their_own_key_only() {
    let iam = Home::new().iam();
    let own = iam.function_session(&function(), ROLE, Duration::from_secs(60));
    let other = iam.function_session(&function(), ROLE, Duration::from_secs(60));
    let refused = |change: &dyn Fn(&mut iam::Credentials)| {
        let mut credentials = own.clone();
        change(&mut credentials);
        let head = signed(head("GET", "http://localhost/", &[]), b"", &credentials, "lambda");
        verify(&iam, &head, b"").unwrap_err()
    };
    assert_eq!(refused(&|c| c.session_token = None), AuthError::UnrecognizedClient);
    assert_eq!(refused(&|c| c.session_token = other.session_token.clone()), AuthError::UnrecognizedClient);
    assert_eq!(refused(&|c| c.session_token = Some("not a token".into())), AuthError::UnrecognizedClient);
    assert_eq!(refused(&|c| c.access_key_id = KEY_ID.into()), AuthError::UnrecognizedClient);
    assert_eq!(refused(&|c| c.secret_access_key = SECRET.into()), AuthError::SignatureMismatch);
    let foreign = Home::new().iam().function_session(&function(), ROLE, Duration::from_secs(60));
    assert_eq!(refused(&|c| *c = foreign.clone()), AuthError::UnrecognizedClient);
}

#[test]
fn links_are_for_one_purpose_and_time() {
    let home = Home::new();
    let iam = home.iam();
    let end = Timestamp(NOW.as_millis() + 1000);
    let token = iam.sign_link("code/abc", end);
    assert!(iam.check_link("code/abc", end, &token));
    assert!(home.iam().check_link("code/abc", end, &token), "it outlives a restart");
    assert!(!iam.check_link("code/abd", end, &token));
    assert!(!iam.check_link("code/abc", Timestamp(end.as_millis() + 1), &token));
    assert!(!iam.check_link("code/abc", end, ""));
    assert!(!iam.check_link("code/abc", end, &token[1..]));
    assert!(!Home::new().iam().check_link("code/abc", end, &token));
    home.clock.advance(1000);
    assert!(!iam.check_link("code/abc", end, &token));
}

#[test]
fn callers_compare_by_who_they_are() {
    let iam = Home::new().iam();
    let admin = Caller::new(iam.first_account().clone(), Principal::User { name: "admin".into() });
    assert!(admin.may("lambda:GetFunction", &function().to_string()));
}
