// A custom runtime in Go: asks the Lambda Runtime API for events and answers each one. Of the standard library alone, so
// that build.sh needs no modules; github.com/aws/aws-lambda-go does the same with less writing.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"runtime"
)

func handle(event map[string]any) (any, error) {
	if what, there := event["fail"]; there {
		return nil, fmt.Errorf("told to fail: %v", what)
	}
	return map[string]any{"message": "Hello from " + runtime.Version() + "!", "event": event}, nil
}

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(api + "next")
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(next.Body)
		next.Body.Close()
		if err != nil {
			log.Fatal(err)
		}
		id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
		fmt.Printf("event of %d bytes\n", len(body))
		event := map[string]any{}
		// Events that are no objects have nothing for this one.
		_ = json.Unmarshal(body, &event)
		answer, failed := handle(event)
		path := id + "/response"
		if failed != nil {
			path, answer = id+"/error", map[string]any{"errorType": "Failed", "errorMessage": failed.Error()}
		}
		text, err := json.Marshal(answer)
		if err != nil {
			log.Fatal(err)
		}
		done, err := http.Post(api+path, "application/json", bytes.NewReader(text))
		if err != nil {
			log.Fatal(err)
		}
		done.Body.Close()
	}
}
