// What a user of aws-sdk-go-v2 does, with nothing of Cleave's. The engine is where AWS_ENDPOINT_URL says; the zips and the
// runtime come as JSON on standard input. Prints one JSON object: what was observed, by name. It judges nothing:
// tests/compat/test_sdks.py does, and asks tests/compat/js for the same.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

type object = map[string]any

// What the tests give. Base64 is what encoding/json makes of bytes.
type given struct {
	Runtime string `json:"runtime"`
	Role    string `json:"role"`
	Code    []byte `json:"code"`
	Changed []byte `json:"changed"`
}

type user struct {
	given
	client *lambda.Client
	ctx    context.Context
}

// must is for calls whose failure is the failure of their step.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func attempts(count int) func(*lambda.Options) {
	return func(options *lambda.Options) { options.RetryMaxAttempts = count }
}

// refusal is what a call was refused with: the type it can be caught by, and what the type tells.
func refusal(err error) any {
	var told smithy.APIError
	if !errors.As(err, &told) {
		return fmt.Sprintf("no error of the API: %v", err)
	}
	seen := object{
		"class": reflect.TypeOf(told).Elem().Name(), "name": told.ErrorCode(), "message": told.ErrorMessage(), "attempts": 1,
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		seen["status"] = response.HTTPStatusCode()
	}
	var tried *retry.MaxAttemptsError
	if errors.As(err, &tried) {
		seen["attempts"] = tried.Attempt
	}
	var throttled *types.TooManyRequestsException
	if errors.As(err, &throttled) {
		seen["reason"], seen["retry_after"] = throttled.Reason, throttled.RetryAfterSeconds
	}
	return seen
}

// attempt runs a step; its panic is what failed.
func attempt(step func() any) (seen any) {
	defer func() {
		if failed := recover(); failed != nil {
			seen = object{"failed": fmt.Sprint(failed)}
		}
	}()
	return step()
}

func main() {
	one := user{ctx: context.Background()}
	if err := json.NewDecoder(os.Stdin).Decode(&one.given); err != nil {
		panic(err)
	}
	one.client = lambda.NewFromConfig(must(config.LoadDefaultConfig(one.ctx)), attempts(1))
	seen := object{}
	for _, step := range one.steps() {
		seen[step.name] = attempt(step.run)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		panic(err)
	}
}
