//! IAM API: managed policies and their versions.

use http::Response;
use iam::directory::{ManagedPolicy, PolicyVersion};
use sandbox::Body;

use super::page::page;
use super::{Call, encoded, tags};
use crate::failure::Failure;
use crate::query::{Xml, validation};

/// A policy with how many roles have it attached and how many as their boundary.
type Used = (ManagedPolicy, usize, usize);

pub(super) async fn create(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let form = &call.form;
    let new = iam::directory::NewPolicy {
        name: form.required("PolicyName")?,
        path: form.text("Path"),
        text: form.required("PolicyDocument")?,
        description: form.text("Description"),
        tags: form.tags(),
    };
    let created = call.iam.create_policy(call.request.caller, new).await.map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.within("Policy", |xml| shape(xml, &(created, 0, 0), false));
    }))
}

pub(super) fn get(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let found = read(call, "iam:GetPolicy")?;
    Ok(call.answer(|xml| {
        xml.within("Policy", |xml| shape(xml, &found, true));
    }))
}

pub(super) fn list(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let (aws, local) = match call.form.text("Scope").as_deref() {
        None | Some("" | "All") => (true, true),
        Some("AWS") => (true, false),
        Some("Local") => (false, true),
        Some(_) => return Err(validation("Scope is All, AWS or Local.")),
    };
    let prefix = call.form.text("PathPrefix").unwrap_or_else(|| "/".into());
    let only_attached = call.form.boolean("OnlyAttached");
    let mut found = call.iam.list_policies(call.request.caller, aws, local).map_err(call.failed())?;
    found.retain(|(policy, attached, _)| {
        policy.path.starts_with(&prefix) && (!only_attached || *attached > 0)
    });
    let page = page(&call.form, found, |(policy, ..)| policy.arn.clone())?;
    Ok(call.answer(|xml| {
        xml.list("Policies", &page.items, |xml, used| shape(xml, used, false));
        page.end(xml);
    }))
}

pub(super) async fn delete(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let arn = call.form.required("PolicyArn")?;
    call.iam.delete_policy(call.request.caller, &arn).await.map_err(call.failed())?;
    Ok(call.done())
}

pub(super) async fn create_version(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let (arn, text) = (call.form.required("PolicyArn")?, call.form.required("PolicyDocument")?);
    let set_default = call.form.boolean("SetAsDefault");
    let made = call.iam.create_policy_version(call.request.caller, &arn, text, set_default).await;
    let (number, policy) = made.map_err(call.failed())?;
    Ok(call.answer(|xml| {
        if let Some(version) = policy.versions.get(&number) {
            xml.within("PolicyVersion", |xml| version_shape(xml, &policy, number, version, false));
        }
    }))
}

pub(super) fn get_version(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let (policy, ..) = read(call, "iam:GetPolicyVersion")?;
    let name = call.form.required("VersionId")?;
    let (number, version) = policy.version(&name).map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.within("PolicyVersion", |xml| version_shape(xml, &policy, number, version, true));
    }))
}

pub(super) fn list_versions(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let (policy, ..) = read(call, "iam:ListPolicyVersions")?;
    // Numbers of one width have the order of numbers.
    let page = page(&call.form, policy.versions.iter().collect(), |(number, _)| format!("{number:010}"))?;
    Ok(call.answer(|xml| {
        xml.list("Versions", &page.items, |xml, (number, version)| {
            version_shape(xml, &policy, **number, version, false);
        });
        page.end(xml);
    }))
}

pub(super) async fn set_default(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let (arn, version) = (call.form.required("PolicyArn")?, call.form.required("VersionId")?);
    let set = call.iam.set_default_policy_version(call.request.caller, &arn, &version).await;
    set.map_err(call.failed())?;
    Ok(call.done())
}

pub(super) async fn delete_version(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let (arn, version) = (call.form.required("PolicyArn")?, call.form.required("VersionId")?);
    let deleted = call.iam.delete_policy_version(call.request.caller, &arn, &version).await;
    deleted.map_err(call.failed())?;
    Ok(call.done())
}

pub(super) fn list_entities(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let arn = call.form.required("PolicyArn")?;
    let roles = call.iam.roles_with(call.request.caller, &arn).map_err(call.failed())?;
    let page = page(&call.form, roles, |role| role.name.clone())?;
    Ok(call.answer(|xml| {
        xml.within("PolicyGroups", |_| ()).within("PolicyUsers", |_| ());
        xml.list("PolicyRoles", &page.items, |xml, role| {
            xml.text("RoleName", &role.name).text("RoleId", &role.id);
        });
        page.end(xml);
    }))
}

fn read(call: &Call<'_>, action: &str) -> Result<Used, Failure> {
    let arn = call.form.required("PolicyArn")?;
    call.iam.policy(call.request.caller, action, &arn).map_err(call.failed())
}

/// IAM API: Policy. Only GetPolicy shows description and tags.
fn shape(xml: &mut Xml, (policy, attached, bounding): &Used, whole: bool) {
    xml.text("PolicyName", &policy.name)
        .text("PolicyId", &policy.id)
        .text("Arn", &policy.arn)
        .text("Path", &policy.path)
        .text("DefaultVersionId", format!("v{}", policy.default_version))
        .text("AttachmentCount", attached.to_string())
        .text("PermissionsBoundaryUsageCount", bounding.to_string())
        .text("IsAttachable", "true")
        .time("CreateDate", policy.created)
        .time("UpdateDate", policy.updated);
    if whole {
        xml.maybe("Description", policy.description.as_deref());
        tags(xml, &policy.tags);
    }
}

fn version_shape(xml: &mut Xml, policy: &ManagedPolicy, number: u32, version: &PolicyVersion, whole: bool) {
    if whole {
        xml.text("Document", encoded(version.document.text()));
    }
    xml.text("VersionId", format!("v{number}"))
        .text("IsDefaultVersion", (number == policy.default_version).to_string())
        .time("CreateDate", version.created);
}
