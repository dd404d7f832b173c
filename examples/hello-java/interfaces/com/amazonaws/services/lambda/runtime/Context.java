package com.amazonaws.services.lambda.runtime;

/** What the sample needs of it. A project has aws-lambda-java-core for that. */
public interface Context {
    String getAwsRequestId();

    int getRemainingTimeInMillis();

    LambdaLogger getLogger();
}
