//! IAM API: CreateRole, GetRole, ListRoles, DeleteRole, UpdateRole, UpdateAssumeRolePolicy, boundaries, tags.

use http::Response;
use iam::directory::{NewRole, Role, RoleChange};
use sandbox::Body;

use super::page::page;
use super::{Call, encoded, tags};
use crate::failure::Failure;
use crate::query::Xml;

pub(super) async fn create(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let form = &call.form;
    let new = NewRole {
        name: form.required("RoleName")?,
        path: form.text("Path"),
        trust: form.required("AssumeRolePolicyDocument")?,
        description: form.text("Description"),
        max_session_s: form.integer("MaxSessionDuration")?,
        tags: form.tags(),
        boundary: form.text("PermissionsBoundary"),
    };
    let role = call.iam.create_role(call.request.caller, new).await.map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.within("Role", |xml| shape(xml, &role, true));
    }))
}

pub(super) fn get(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let role = call.iam.get_role(call.request.caller, &call.form.required("RoleName")?);
    let role = role.map_err(call.failed())?;
    Ok(call.answer(|xml| {
        xml.within("Role", |xml| shape(xml, &role, true));
    }))
}

pub(super) fn list(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let prefix = call.form.text("PathPrefix").unwrap_or_else(|| "/".into());
    let roles = call.iam.list_roles(call.request.caller, &prefix).map_err(call.failed())?;
    let page = page(&call.form, roles, |role| role.name.clone())?;
    Ok(call.answer(|xml| {
        xml.list("Roles", &page.items, |xml, role| shape(xml, role, false));
        page.end(xml);
    }))
}

pub(super) async fn delete(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let name = call.form.required("RoleName")?;
    call.iam.delete_role(call.request.caller, &name).await.map_err(call.failed())?;
    Ok(call.done())
}

pub(super) async fn update(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let change = RoleChange::Update {
        description: call.form.text("Description"),
        max_session_s: call.form.integer("MaxSessionDuration")?,
    };
    change_role(call, change).await?;
    Ok(call.done())
}

pub(super) async fn update_description(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let description = Some(call.form.required("Description")?);
    let role = change_role(call, RoleChange::Update { description, max_session_s: None }).await?;
    Ok(call.answer(|xml| {
        xml.within("Role", |xml| shape(xml, &role, true));
    }))
}

pub(super) async fn update_trust(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::Trust(call.form.required("PolicyDocument")?)).await?;
    Ok(call.done())
}

pub(super) async fn put_boundary(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::PutBoundary(call.form.required("PermissionsBoundary")?)).await?;
    Ok(call.done())
}

pub(super) async fn delete_boundary(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::DeleteBoundary).await?;
    Ok(call.done())
}

pub(super) async fn tag(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::Tag(call.form.tags())).await?;
    Ok(call.done())
}

pub(super) async fn untag(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    change_role(call, RoleChange::Untag(call.form.texts("TagKeys"))).await?;
    Ok(call.done())
}

pub(super) fn list_tags(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    let role = read(call, "iam:ListRoleTags")?;
    let page = page(&call.form, role.tags.iter().collect(), |(key, _)| (*key).clone())?;
    Ok(call.answer(|xml| {
        tags(xml, page.items.iter().copied());
        page.end(xml);
    }))
}

/// There are no instance profiles; tools ask before they delete a role.
pub(super) fn list_instance_profiles(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    read(call, "iam:ListInstanceProfilesForRole")?;
    Ok(call.answer(|xml| {
        xml.within("InstanceProfiles", |_| ()).text("IsTruncated", "false");
    }))
}

/// The role that `RoleName` names, for an operation that reads it.
pub(super) fn read(call: &Call<'_>, action: &str) -> Result<std::sync::Arc<Role>, Failure> {
    let name = call.form.required("RoleName")?;
    call.iam.permitted_role(call.request.caller, action, &name).map_err(call.failed())
}

/// Changes the role that `RoleName` names.
pub(super) async fn change_role(
    call: &Call<'_>,
    change: RoleChange,
) -> Result<std::sync::Arc<Role>, Failure> {
    let name = call.form.required("RoleName")?;
    call.iam.change_role(call.request.caller, &name, change).await.map_err(call.failed())
}

/// IAM API: Role. Listings leave tags and boundary out.
fn shape(xml: &mut Xml, role: &Role, whole: bool) {
    xml.text("Path", &role.path)
        .text("RoleName", &role.name)
        .text("RoleId", &role.id)
        .text("Arn", role.arn())
        .time("CreateDate", role.created)
        .text("AssumeRolePolicyDocument", encoded(role.trust.text()))
        .maybe("Description", role.description.as_deref())
        .text("MaxSessionDuration", role.max_session_s.to_string());
    if !whole {
        return;
    }
    if let Some(boundary) = &role.boundary {
        xml.within("PermissionsBoundary", |xml| {
            xml.text("PermissionsBoundaryType", "PermissionsBoundaryPolicy")
                .text("PermissionsBoundaryArn", boundary);
        });
    }
    if !role.tags.is_empty() {
        tags(xml, &role.tags);
    }
}
