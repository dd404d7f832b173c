package com.amazonaws.services.lambda.runtime;

/** Stands in for the interface of that name where a package does not carry it. */
public interface RequestHandler<I, O> {
    O handleRequest(I input, Context context);
}
