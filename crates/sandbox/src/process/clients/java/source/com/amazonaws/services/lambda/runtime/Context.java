package com.amazonaws.services.lambda.runtime;

/** Stands in for the interface of that name where a package does not carry it. */
public interface Context {
    String getAwsRequestId();

    String getLogGroupName();

    String getLogStreamName();

    String getFunctionName();

    String getFunctionVersion();

    String getInvokedFunctionArn();

    CognitoIdentity getIdentity();

    ClientContext getClientContext();

    int getRemainingTimeInMillis();

    int getMemoryLimitInMB();

    LambdaLogger getLogger();

    /** Newer than the rest. */
    default String getTenantId() {
        return null;
    }

    /** Newer than the rest. */
    default String getXrayTraceId() {
        return null;
    }
}
