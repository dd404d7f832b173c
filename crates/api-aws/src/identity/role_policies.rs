//! IAM API: a role's own policies, and those attached to it.

use http::Response;
use iam::directory::RoleChange;
use sandbox::Body;

use super::page::page;
use super::roles::{change_role, read};
use super::{Call, encoded};
use crate::failure::Failure;

pub(super) async fn put(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let (name, text) = (call.form.required("PolicyName")?, call.form.required("PolicyDocument")?);
    change_role(call, RoleChange::PutPolicy(name, text)).await?;
    Ok(call.done())
}

pub(super) fn get(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let role = read(call, "iam:GetRolePolicy")?;
    let name = call.form.required("PolicyName")?;
    let document = role.policy(&name).map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.text("RoleName", &role.name)
            .text("PolicyName", &name)
            .text("PolicyDocument", encoded(document.text()));
    }))
}

pub(super) fn list(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let role = read(call, "iam:ListRolePolicies")?;
    let page = page(&call.form, role.inline.keys().collect(), |name| (*name).clone())?;
    Ok(call.answer(|xml| {
        xml.texts("PolicyNames", page.items.iter().map(|name| name.as_str()));
        page.end(xml);
    }))
}

pub(super) async fn delete(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::DeletePolicy(call.form.required("PolicyName")?)).await?;
    Ok(call.done())
}

pub(super) async fn attach(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::Attach(call.form.required("PolicyArn")?)).await?;
    Ok(call.done())
}

pub(super) async fn detach(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::Detach(call.form.required("PolicyArn")?)).await?;
    Ok(call.done())
}

pub(super) fn list_attached(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let role = read(call, "iam:ListAttachedRolePolicies")?;
    let prefix = call.form.text("PathPrefix").unwrap_or_else(|| "/".into());
    // What follows `…:policy` is the path and the name.
    let below = |arn: &&String| arn.split_once(":policy").is_some_and(|(_, path)| path.starts_with(&prefix));
    let attached = role.attached.iter().filter(below).collect();
    let page = page(&call.form, attached, |arn: &&String| (*arn).clone())?;
    Ok(call.answer(|xml| {
        xml.list("AttachedPolicies", &page.items, |xml, arn| {
            xml.text("PolicyName", arn.rsplit('/').next().unwrap_or_default()).text("PolicyArn", arn);
        });
        page.end(xml);
    }))
}
