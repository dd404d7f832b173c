//! AWS's own policies that tools attach without making them: a few, by their published documents, shortened to
//! services that can be here.

use std::sync::LazyLock;

use base::Timestamp;

use super::policies::ManagedPolicy;
use super::{Document, PolicyVersion};

/// Path below `arn:aws:iam::aws:policy/`, unique id, and what is allowed: actions, on what.
const TABLE: &[(&str, &str, &[&str], &str)] = &[
    ("AdministratorAccess", "ANPAIWMBCKSKIEE64ZLYK", &["*"], "*"),
    ("IAMFullAccess", "ANPAI7XKCFMBPM3QQRRVQ", &["iam:*", "organizations:DescribeAccount"], "*"),
    (
        "AWSLambda_FullAccess",
        "ANPAZKAPJZG4OM6MGI6UD",
        &[
            "lambda:*",
            "iam:GetRole",
            "iam:ListRoles",
            "iam:PassRole",
            "logs:DescribeLogGroups",
            "logs:DescribeLogStreams",
            "logs:FilterLogEvents",
            "logs:GetLogEvents",
        ],
        "*",
    ),
    (
        "AWSLambda_ReadOnlyAccess",
        "ANPAZKAPJZG4CR4OJKEW3",
        &[
            "lambda:Get*",
            "lambda:List*",
            "iam:GetRole",
            "iam:ListRoles",
            "logs:DescribeLogGroups",
            "logs:FilterLogEvents",
        ],
        "*",
    ),
    ("CloudWatchLogsFullAccess", "ANPAJ3ZGNWK2R5HW5BQFO", &["logs:*"], "*"),
    ("AmazonS3FullAccess", "ANPAIFIR6V6BVTRAHWINE", &["s3:*"], "*"),
    ("AmazonS3ReadOnlyAccess", "ANPAIZTJ4DXE7G6AGAE6M", &["s3:Get*", "s3:List*", "s3:Describe*"], "*"),
    ("AmazonSQSFullAccess", "ANPAI65L554VRJ33ECQS6", &["sqs:*"], "*"),
    ("AmazonDynamoDBFullAccess", "ANPAINUGF2JSOSUY76KYA", &["dynamodb:*"], "*"),
    (
        "AWSXRayDaemonWriteAccess",
        "ANPAIOE47HSUE5AVBNEDM",
        &[
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
        ],
        "*",
    ),
    (
        "service-role/AWSLambdaBasicExecutionRole",
        "ANPAJNCQGXC42545SKXIK",
        &["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
        "*",
    ),
    (
        "service-role/AWSLambdaVPCAccessExecutionRole",
        "ANPAJVTME3YLVNL72YR2K",
        &[
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "ec2:CreateNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DeleteNetworkInterface",
        ],
        "*",
    ),
    (
        "service-role/AWSLambdaSQSQueueExecutionRole",
        "ANPAJFWJZI6JNND4TSELK",
        &[
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ],
        "*",
    ),
    ("service-role/AWSLambdaRole", "ANPAJX4DPCRGTC4NFDUXI", &["lambda:InvokeFunction"], "*"),
];

/// All of them, in the order of their ARNs' table.
static ALL: LazyLock<Vec<ManagedPolicy>> = LazyLock::new(|| TABLE.iter().map(one).collect());

/// The policy with this ARN.
pub(super) fn find(arn: &str) -> Option<&'static ManagedPolicy> {
    ALL.iter().find(|policy| policy.arn == arn)
}

/// All of them.
pub(super) fn all() -> &'static [ManagedPolicy] {
    &ALL
}

fn one((path, id, actions, resource): &(&str, &str, &[&str], &str)) -> ManagedPolicy {
    let text = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": resource }]
    });
    // The table is a constant, and a test reads all of it.
    let document = Document::identity(text.to_string()).expect("the table holds policies");
    let (folder, name) =
        path.rsplit_once('/').map_or(("/".to_owned(), *path), |(folder, name)| (format!("/{folder}/"), name));
    // When AWS opened its managed policies; none of them says more here.
    let created = Timestamp(1_423_181_100_000);
    ManagedPolicy {
        arn: format!("arn:aws:iam::aws:policy/{path}"),
        name: name.to_owned(),
        path: folder,
        id: (*id).to_owned(),
        description: None,
        created,
        updated: created,
        versions: [(1, PolicyVersion { document, created })].into(),
        default_version: 1,
        next_version: 2,
        tags: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_policies() {
        assert_eq!(all().len(), TABLE.len());
        let basic = find("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole").unwrap();
        assert_eq!(
            (basic.name.as_str(), basic.path.as_str()),
            ("AWSLambdaBasicExecutionRole", "/service-role/")
        );
        assert!(find("arn:aws:iam::aws:policy/Nothing").is_none());
    }
}
