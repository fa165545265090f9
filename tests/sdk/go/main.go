// Streams through the OpenAI SDK for Go; jobs as in ../batch.mjs.
//
// isAPIError: the SDK's own error of an answer, or of an event in a stream. Where the API is and the key
// come from the environment.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/responses"
)

const atOnce = 40

type job struct {
	Name    string            `json:"name"`
	Op      string            `json:"op"`
	Model   string            `json:"model"`
	Headers map[string]string `json:"headers"`
}

type facts struct {
	Name       string `json:"name"`
	IsAPIError bool   `json:"isAPIError"`
	Status     int    `json:"status"`
	Code       any    `json:"code"`
	Message    string `json:"message"`
}

type told struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Text   string `json:"text"`
	Finish string `json:"finish"`
	Error  *facts `json:"error"`
}

func options(j job) []option.RequestOption {
	var all []option.RequestOption
	for name, value := range j.Headers {
		all = append(all, option.WithHeader(name, value))
	}
	return all
}

func chat(client *openai.Client, j job, t *told) error {
	stream := client.Chat.Completions.NewStreaming(context.Background(), openai.ChatCompletionNewParams{
		Model:         j.Model,
		Messages:      []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")},
		StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
	}, options(j)...)
	defer stream.Close()
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			t.Text += choice.Delta.Content
			if choice.FinishReason != "" {
				t.Finish = string(choice.FinishReason)
			}
		}
	}
	return stream.Err()
}

func response(client *openai.Client, j job, t *told) error {
	stream := client.Responses.NewStreaming(context.Background(), responses.ResponseNewParams{
		Model: j.Model,
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")},
	}, options(j)...)
	defer stream.Close()
	for stream.Next() {
		event := stream.Current()
		switch event.Type {
		case "response.output_text.delta":
			t.Text += event.Delta
		case "response.completed", "response.incomplete", "response.failed":
			t.Finish = string(event.Response.Status)
		}
	}
	return stream.Err()
}

// What an error event says: the SDK keeps the event as it came.
func codeOf(event []byte) any {
	var said struct {
		Code  any             `json:"code"`
		Error json.RawMessage `json:"error"`
	}
	var inner struct {
		Code any `json:"code"`
	}
	if json.Unmarshal(event, &said) != nil {
		return nil
	}
	if json.Unmarshal(said.Error, &inner) == nil && inner.Code != nil {
		return inner.Code
	}
	return said.Code
}

func describe(err error) *facts {
	f := &facts{Name: fmt.Sprintf("%T", err), Message: err.Error()}
	var api *openai.Error
	var event *ssestream.StreamError
	if errors.As(err, &api) {
		f.IsAPIError, f.Status, f.Code, f.Message = true, api.StatusCode, api.Code, api.RawJSON()
	} else if errors.As(err, &event) {
		f.IsAPIError, f.Code = true, codeOf(event.Event.Data)
	}
	return f
}

func one(client *openai.Client, j job) told {
	ops := map[string]func(*openai.Client, job, *told) error{"chat": chat, "responses": response}
	t := told{Name: j.Name, Kind: "whole"}
	if err := ops[j.Op](client, j, &t); err != nil {
		t.Kind, t.Error = "error", describe(err)
	}
	return t
}

func main() {
	var jobs []job
	if err := json.NewDecoder(bufio.NewReader(os.Stdin)).Decode(&jobs); err != nil {
		panic(err)
	}
	client := openai.NewClient()
	results, waiting := make(chan told), make(chan job)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for j := range waiting {
				results <- one(&client, j)
			}
		}()
	}
	go func() {
		for _, j := range jobs {
			waiting <- j
		}
		close(waiting)
		workers.Wait()
		close(results)
	}()
	out := json.NewEncoder(os.Stdout)
	for t := range results {
		if err := out.Encode(t); err != nil {
			panic(err)
		}
	}
}
