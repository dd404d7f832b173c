package com.amazonaws.services.lambda.runtime;

import java.util.Map;

/** Stands in for the interface of that name where a package does not carry it. */
public interface ClientContext {
    Client getClient();

    Map<String, String> getCustom();

    Map<String, String> getEnvironment();
}
