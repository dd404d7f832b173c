"""IAM and STS: every operation that docs/identity.md says works."""

import json

import pytest

from support.families import Refused

BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


def allowing(principal=None, action="lambda:InvokeFunction"):
    """A policy of one statement: a role's trust where there is a principal."""
    whom = {"Principal": principal} if principal else {"Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action} | whom]})


def sessions(call, role_arn):
    """STS."""
    account = call("GetCallerIdentity")["Account"]
    assert call("AssumeRole", RoleArn=role_arn, RoleSessionName="me")["Credentials"]["SessionToken"]
    assert call("GetSessionToken")["Credentials"]["SecretAccessKey"]
    return account


def run(call, name, sts):
    """`call` is IAM's, `sts` the other's."""
    role = {"RoleName": name}
    made = call("CreateRole", **role, AssumeRolePolicyDocument=allowing({"AWS": "*"}, "sts:AssumeRole"))["Role"]
    roles(call, role)
    policies_of_a_role(call, role)
    managed_policies(call, role, name)
    sessions(sts, made["Arn"])
    call("DeleteRole", **role)
    with pytest.raises(Refused, match="NoSuchEntity"):
        call("GetRole", **role)
    user = call("GetUser")["User"]["UserName"]
    assert user in [each["UserName"] for each in call("ListUsers")["Users"]]
    assert call("ListAccountAliases").get("AccountAliases", []) == []


def roles(call, role):
    call("UpdateRole", **role, Description="one", MaxSessionDuration=7200)
    call("UpdateRoleDescription", **role, Description="two")
    found = call("GetRole", **role)["Role"]
    assert (found["Description"], found["MaxSessionDuration"]) == ("two", 7200)
    assert role["RoleName"] in [each["RoleName"] for each in call("ListRoles")["Roles"]]
    call("UpdateAssumeRolePolicy", **role, PolicyDocument=allowing({"AWS": "*"}, "sts:AssumeRole"))
    call("TagRole", **role, Tags=[{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}])
    call("UntagRole", **role, TagKeys=["a"])
    assert call("ListRoleTags", **role)["Tags"] == [{"Key": "c", "Value": "d"}]
    call("PutRolePermissionsBoundary", **role, PermissionsBoundary=BASIC)
    assert call("GetRole", **role)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == BASIC
    call("DeleteRolePermissionsBoundary", **role)
    assert call("ListInstanceProfilesForRole", **role).get("InstanceProfiles", []) == []


def policies_of_a_role(call, role):
    call("PutRolePolicy", **role, PolicyName="p", PolicyDocument=allowing())
    assert call("ListRolePolicies", **role)["PolicyNames"] == ["p"]
    assert call("GetRolePolicy", **role, PolicyName="p")["PolicyName"] == "p"
    call("DeleteRolePolicy", **role, PolicyName="p")
    call("AttachRolePolicy", **role, PolicyArn=BASIC)
    assert [each["PolicyArn"] for each in call("ListAttachedRolePolicies", **role)["AttachedPolicies"]] == [BASIC]
    with pytest.raises(Refused, match="DeleteConflict"):
        call("DeleteRole", **role)
    call("DetachRolePolicy", **role, PolicyArn=BASIC)


def managed_policies(call, role, name):
    arn = {"PolicyArn": call("CreatePolicy", PolicyName=name, PolicyDocument=allowing())["Policy"]["Arn"]}
    call("CreatePolicyVersion", **arn, PolicyDocument=allowing(action="lambda:*"))
    call("SetDefaultPolicyVersion", **arn, VersionId="v2")
    assert call("GetPolicy", **arn)["Policy"]["DefaultVersionId"] == "v2"
    assert call("GetPolicyVersion", **arn, VersionId="v1")["PolicyVersion"]["IsDefaultVersion"] is False
    call("DeletePolicyVersion", **arn, VersionId="v1")
    assert [each["VersionId"] for each in call("ListPolicyVersions", **arn)["Versions"]] == ["v2"]
    assert name in [each["PolicyName"] for each in call("ListPolicies", Scope="Local")["Policies"]]
    call("AttachRolePolicy", **role, **arn)
    assert call("ListEntitiesForPolicy", **arn)["PolicyRoles"][0]["RoleName"] == role["RoleName"]
    call("DetachRolePolicy", **role, **arn)
    call("DeletePolicy", **arn)
