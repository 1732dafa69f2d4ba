// The steps, in the order in which they need each other.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const (
	name       = "from-go"
	streamName = "stream-go"
	waitAtMost = 50 * time.Second
)

type step struct {
	name string
	run  func() any
}

func (u *user) steps() []step {
	return []step{
		{"create", u.create},
		{"payload", u.payload},
		{"large_payload", u.largePayload},
		{"too_large_payload", u.tooLargePayload},
		{"function_error", u.functionError},
		{"log_tail", u.logTail},
		{"client_context", u.clientContext},
		{"other_types", u.otherTypes},
		{"at_once", u.atOnce},
		{"stream", func() any { return u.streamed(object{"count": 50}, types.LogTypeNone) }},
		{"stream_log", func() any { return u.streamed(object{"count": 2}, types.LogTypeTail)["end"] }},
		{"stream_failure", func() any { return u.streamed(object{"count": 3, "then": "fail"}, types.LogTypeNone) }},
		{"stream_of_nobody", u.streamOfNobody},
		{"stream_as_made", u.streamAsMade},
		{"absent", u.absent},
		{"invalid", u.invalid},
		{"conflict", u.conflict},
		{"throttle", u.throttle},
		{"update", u.update},
		{"publish", u.publish},
		{"timestamp", u.timestamp},
		{"pages", u.pages},
		{"delete", u.remove},
	}
}

func (u *user) made(name string, more func(*lambda.CreateFunctionInput)) (*lambda.CreateFunctionOutput, error) {
	input := &lambda.CreateFunctionInput{
		FunctionName: &name,
		Runtime:      types.Runtime(u.Runtime),
		Role:         &u.Role,
		Handler:      aws.String("app.handler"),
		Code:         &types.FunctionCode{ZipFile: u.Code},
	}
	if more != nil {
		more(input)
	}
	return u.client.CreateFunction(u.ctx, input)
}

func (u *user) invoke(event object, more func(*lambda.InvokeInput)) (*lambda.InvokeOutput, error) {
	input := &lambda.InvokeInput{FunctionName: aws.String(name), Payload: must(json.Marshal(event))}
	if more != nil {
		more(input)
	}
	return u.client.Invoke(u.ctx, input)
}

func (u *user) value(event object, more func(*lambda.InvokeInput)) any {
	return decoded(must(u.invoke(event, more)).Payload)
}

func decoded(payload []byte) (value any) {
	if err := json.Unmarshal(payload, &value); err != nil {
		panic(err)
	}
	return value
}

// success is the word for a waiter that came to its end.
func success(err error) string {
	if err != nil {
		return err.Error()
	}
	return "SUCCESS"
}

func (u *user) create() any {
	made := must(u.made(name, func(input *lambda.CreateFunctionInput) {
		input.Environment = &types.Environment{Variables: map[string]string{"GREETING": "Ahoy – «world»"}}
		input.Tags = map[string]string{"team": "a b/ü"}
		input.Timeout = aws.Int32(20)
	}))
	active := lambda.NewFunctionActiveV2Waiter(u.client)
	waited := active.Wait(u.ctx, &lambda.GetFunctionInput{FunctionName: aws.String(name)}, waitAtMost)
	got := must(u.client.GetFunction(u.ctx, &lambda.GetFunctionInput{FunctionName: aws.String(name)}))
	download := must(http.Get(*got.Code.Location))
	code := must(io.ReadAll(download.Body))
	must(u.made(streamName, func(input *lambda.CreateFunctionInput) {
		input.Handler, input.Timeout = aws.String("app.stream"), aws.Int32(50)
	}))
	if err := active.Wait(u.ctx, &lambda.GetFunctionInput{FunctionName: aws.String(streamName)}, waitAtMost); err != nil {
		panic(err)
	}
	return object{
		"sha256":                made.CodeSha256,
		"waited":                success(waited),
		"state_then":            got.Configuration.State,
		"environment":           got.Configuration.Environment.Variables,
		"tags":                  got.Tags,
		"code_is_what_was_sent": bytes.Equal(code, u.Code),
	}
}

func (u *user) payload() any {
	event := object{"do": "echo", "text": "Ahoy – «world» \x00 😀", "list": []any{1, 2.5, nil, true}}
	answer := must(u.invoke(event, nil))
	return object{
		"value": decoded(answer.Payload), "sent": event,
		"status": answer.StatusCode, "version": answer.ExecutedVersion, "error": answer.FunctionError,
	}
}

func (u *user) largePayload() any {
	event := object{"do": "echo", "text": strings.Repeat("x", 5_000_000)}
	return object{"same": u.value(event, nil).(object)["text"] == event["text"]}
}

func (u *user) tooLargePayload() any {
	_, err := u.invoke(object{"do": "echo", "text": strings.Repeat("x", 6_291_457)}, nil)
	return refusal(err)
}

func (u *user) functionError() any {
	answer := must(u.invoke(object{"do": "fail"}, nil))
	return object{"status": answer.StatusCode, "error": answer.FunctionError, "document": decoded(answer.Payload)}
}

func (u *user) logTail() any {
	answer := must(u.invoke(object{"do": "echo"}, func(input *lambda.InvokeInput) { input.LogType = types.LogTypeTail }))
	log := must(base64.StdEncoding.DecodeString(*answer.LogResult))
	return object{"log": string(log), "without": must(u.invoke(object{"do": "echo"}, nil)).LogResult}
}

func (u *user) clientContext() any {
	context := must(json.Marshal(object{"custom": object{"key": "välue"}, "client": object{"app_title": "a"}}))
	return u.value(object{"do": "context"}, func(input *lambda.InvokeInput) {
		input.ClientContext = aws.String(base64.StdEncoding.EncodeToString(context))
	})
}

func (u *user) otherTypes() any {
	status := func(kind types.InvocationType) int32 {
		return must(u.invoke(object{"do": "echo"}, func(input *lambda.InvokeInput) { input.InvocationType = kind })).StatusCode
	}
	return object{"event": status(types.InvocationTypeEvent), "dry": status(types.InvocationTypeDryRun)}
}

func (u *user) atOnce() any {
	answers := make([]any, 12)
	var all sync.WaitGroup
	for n := range answers {
		all.Add(1)
		go func() {
			defer all.Done()
			answers[n] = attempt(func() any { return u.value(object{"do": "echo", "n": n}, nil).(object)["n"] })
		}()
	}
	all.Wait()
	return answers
}

func (u *user) stream(ctx context.Context, event object, log types.LogType) *lambda.InvokeWithResponseStreamOutput {
	return must(u.client.InvokeWithResponseStream(ctx, &lambda.InvokeWithResponseStreamInput{
		FunctionName: aws.String(streamName), Payload: must(json.Marshal(event)), LogType: log,
	}))
}

// streamed has the chunks of a stream, and how it ended.
func (u *user) streamed(event object, log types.LogType) object {
	answer := u.stream(u.ctx, event, log)
	stream := answer.GetStream()
	defer stream.Close()
	chunks, end, afterEnd := []string{}, object(nil), 0
	for event := range stream.Events() {
		if end != nil {
			afterEnd++
		}
		switch event := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			chunks = append(chunks, string(event.Value.Payload))
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			end = object{"code": event.Value.ErrorCode, "details": event.Value.ErrorDetails, "log": event.Value.LogResult}
		default:
			panic(fmt.Sprintf("an event of no known type: %T", event))
		}
	}
	if err := stream.Err(); err != nil {
		panic(err)
	}
	return object{
		"chunks": chunks, "end": end, "after_end": afterEnd,
		"status": answer.StatusCode, "type": answer.ResponseStreamContentType,
	}
}

func (u *user) streamOfNobody() any {
	_, err := u.client.InvokeWithResponseStream(u.ctx, &lambda.InvokeWithResponseStreamInput{
		FunctionName: aws.String("nobody"), Payload: []byte("{}"),
	})
	return refusal(err)
}

func (u *user) streamAsMade() any {
	// The function goes on for longer than this waits.
	ctx, leave := context.WithTimeout(u.ctx, 30*time.Second)
	defer leave()
	stream := u.stream(ctx, object{"count": 1, "then": "hold"}, types.LogTypeNone).GetStream()
	first, _ := (<-stream.Events()).(*types.InvokeWithResponseStreamResponseEventMemberPayloadChunk)
	leave()
	stream.Close()
	return string(first.Value.Payload)
}

func (u *user) absent() any {
	_, err := u.invoke(object{}, func(input *lambda.InvokeInput) { input.FunctionName = aws.String("nobody") })
	return refusal(err)
}

func (u *user) configure(memoryMB int32, revision *string) error {
	_, err := u.client.UpdateFunctionConfiguration(u.ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String(name), MemorySize: &memoryMB, RevisionId: revision,
	})
	return err
}

func (u *user) invalid() any {
	return refusal(u.configure(1, nil))
}

func (u *user) conflict() any {
	_, err := u.made(name, nil)
	return refusal(err)
}

func (u *user) throttle() any {
	must(u.client.PutFunctionConcurrency(u.ctx, &lambda.PutFunctionConcurrencyInput{
		FunctionName: aws.String(name), ReservedConcurrentExecutions: aws.Int32(0),
	}))
	_, err := u.client.Invoke(u.ctx, &lambda.InvokeInput{FunctionName: aws.String(name)}, attempts(2))
	must(u.client.DeleteFunctionConcurrency(u.ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String(name)}))
	seen := refusal(err).(object)
	seen["afterwards"] = u.value(object{"do": "echo", "n": 1}, nil).(object)["n"]
	return seen
}

func (u *user) update() any {
	before := must(u.client.GetFunctionConfiguration(u.ctx, &lambda.GetFunctionConfigurationInput{FunctionName: aws.String(name)}))
	if err := u.configure(256, before.RevisionId); err != nil {
		panic(err)
	}
	stale := refusal(u.configure(512, before.RevisionId)).(object)["class"]
	updated := lambda.NewFunctionUpdatedV2Waiter(u.client)
	this := &lambda.GetFunctionInput{FunctionName: aws.String(name)}
	if err := updated.Wait(u.ctx, this, waitAtMost); err != nil {
		panic(err)
	}
	must(u.client.UpdateFunctionCode(u.ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String(name), ZipFile: u.Changed}))
	waited := updated.Wait(u.ctx, this, waitAtMost)
	return object{
		"waited": success(waited), "stale": stale,
		"memory_mb": u.value(object{"do": "memory"}, nil), "value": u.value(object{"do": "echo"}, nil),
	}
}

func (u *user) publish() any {
	version := must(u.client.PublishVersion(u.ctx, &lambda.PublishVersionInput{FunctionName: aws.String(name)})).Version
	this := &lambda.GetFunctionConfigurationInput{FunctionName: aws.String(name), Qualifier: version}
	if err := lambda.NewPublishedVersionActiveWaiter(u.client).Wait(u.ctx, this, waitAtMost); err != nil {
		panic(err)
	}
	alias := must(u.client.CreateAlias(u.ctx, &lambda.CreateAliasInput{
		FunctionName: aws.String(name), Name: aws.String("live"), FunctionVersion: version,
	}))
	ran := []*string{}
	for _, way := range []lambda.InvokeInput{
		{FunctionName: aws.String(name), Qualifier: version},
		{FunctionName: aws.String(name), Qualifier: aws.String("live")},
		{FunctionName: aws.String(name + ":live")},
		{FunctionName: alias.AliasArn},
		{FunctionName: aws.String("000000000000:function:" + name), Qualifier: aws.String("live")},
	} {
		way.Payload = []byte(`{"do": "version"}`)
		ran = append(ran, must(u.client.Invoke(u.ctx, &way)).ExecutedVersion)
	}
	return object{"version": version, "arn": alias.AliasArn, "ran": ran}
}

func (u *user) timestamp() any {
	mapping := must(u.client.CreateEventSourceMapping(u.ctx, &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String(name), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000000:jobs"),
	}))
	deleted := must(u.client.DeleteEventSourceMapping(u.ctx, &lambda.DeleteEventSourceMappingInput{UUID: mapping.UUID}))
	return object{"ms": mapping.LastModified.UnixMilli(), "state": deleted.State}
}

func (u *user) pages() any {
	for n := range 3 {
		must(u.made(fmt.Sprintf("page-go-%d", n+1), nil))
	}
	pages := [][]*string{}
	all := lambda.NewListFunctionsPaginator(u.client, &lambda.ListFunctionsInput{MaxItems: aws.Int32(2)})
	for all.HasMorePages() {
		names := []*string{}
		for _, function := range must(all.NextPage(u.ctx)).Functions {
			names = append(names, function.FunctionName)
		}
		pages = append(pages, names)
	}
	return pages
}

func (u *user) remove() any {
	for _, name := range []string{name, streamName, "page-go-1", "page-go-2", "page-go-3"} {
		must(u.client.DeleteFunction(u.ctx, &lambda.DeleteFunctionInput{FunctionName: &name}))
	}
	left := []*string{}
	for _, function := range must(u.client.ListFunctions(u.ctx, &lambda.ListFunctionsInput{})).Functions {
		left = append(left, function.FunctionName)
	}
	_, err := u.client.GetFunction(u.ctx, &lambda.GetFunctionInput{FunctionName: aws.String(name)})
	return object{"left": left, "then": refusal(err)}
}
