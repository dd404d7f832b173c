//! IAM API: the account's one user, and that the account has no alias.

use http::Response;
use iam::directory::User;
use sandbox::Body;

use super::Call;
use crate::failure::Failure;
use crate::query::Xml;

pub(super) fn get(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let name = call.form.text("UserName");
    let user = call.iam.get_user(call.request.caller, name.as_deref()).map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.within("User", |xml| shape(xml, &user));
    }))
}

pub(super) fn list(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let users = call.iam.list_users(call.request.caller).map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.list("Users", &users, shape).text("IsTruncated", "false");
    }))
}

pub(super) fn list_account_aliases(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    call.iam.check(call.request.caller, "iam:ListAccountAliases").map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.within("AccountAliases", |_| ()).text("IsTruncated", "false");
    }))
}

fn shape(xml: &mut Xml, user: &User) {
    xml.text("Path", "/")
        .text("UserName", &user.name)
        .text("UserId", &user.id)
        .text("Arn", &user.arn)
        .time("CreateDate", user.created);
}
