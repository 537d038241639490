// Command crictl answers `crictl pods`, `crictl ps` and `crictl info` as the crictl of cri-tools does with
// `--output json`. It stands in for it on nodes of the test bed, for which cri-tools cannot be had.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const usage = `crictl (stand-in): crictl [-r ENDPOINT] [-t TIMEOUT] COMMAND [-o json] ...
  pods [--id ID] [--name NAME] [--namespace NAMESPACE] [--state ready|notready] [-q]
  ps   [-a] [--id ID] [--pod ID] [-q]
  info`

// options are those of all three commands; each looks at its own.
type options struct {
	output, id, name, namespace, state, pod string
	all, quiet, noTrunc                     bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	global := flag.NewFlagSet("crictl", flag.ContinueOnError)
	global.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	endpoint := "unix:///run/containerd/containerd.sock"
	timeout := 2 * time.Second
	for _, name := range []string{"runtime-endpoint", "r"} {
		global.StringVar(&endpoint, name, endpoint, "")
	}
	for _, name := range []string{"timeout", "t"} {
		global.DurationVar(&timeout, name, timeout, "")
	}
	if err := global.Parse(arguments); err != nil {
		return err
	}
	name, chosen, err := command(global.Args())
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	client := cri.NewRuntimeServiceClient(connection)
	switch name {
	case "pods":
		return pods(ctx, client, chosen)
	case "ps":
		return containers(ctx, client, chosen)
	default:
		return info(ctx, client)
	}
}

// command splits a command line into the command's name and its options.
func command(words []string) (string, options, error) {
	var chosen options
	if len(words) == 0 || !(words[0] == "pods" || words[0] == "ps" || words[0] == "info") {
		return "", chosen, fmt.Errorf("no command that this stand-in has\n%s", usage)
	}
	flags := flag.NewFlagSet(words[0], flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	for _, name := range []string{"output", "o"} {
		flags.StringVar(&chosen.output, name, "json", "")
	}
	for _, name := range []string{"all", "a"} {
		flags.BoolVar(&chosen.all, name, false, "")
	}
	for _, name := range []string{"quiet", "q"} {
		flags.BoolVar(&chosen.quiet, name, false, "")
	}
	flags.BoolVar(&chosen.noTrunc, "no-trunc", false, "")
	flags.StringVar(&chosen.id, "id", "", "")
	flags.StringVar(&chosen.name, "name", "", "")
	flags.StringVar(&chosen.namespace, "namespace", "", "")
	flags.StringVar(&chosen.state, "state", "", "")
	for _, name := range []string{"pod", "p"} {
		flags.StringVar(&chosen.pod, name, "", "")
	}
	if err := flags.Parse(words[1:]); err != nil {
		return "", chosen, err
	}
	if chosen.output != "json" {
		return "", chosen, fmt.Errorf("only the output json is made, not %q", chosen.output)
	}
	return words[0], chosen, nil
}

func pods(ctx context.Context, client cri.RuntimeServiceClient, chosen options) error {
	filter := &cri.PodSandboxFilter{Id: chosen.id}
	switch strings.ToLower(chosen.state) {
	case "":
	case "ready":
		filter.State = &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}
	case "notready":
		filter.State = &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_NOTREADY}
	default:
		return fmt.Errorf("no state %q: there are ready and notready", chosen.state)
	}
	answer, err := client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: filter})
	if err != nil {
		return err
	}
	kept := answer.Items[:0]
	for _, pod := range answer.Items {
		metadata := pod.GetMetadata()
		if (chosen.name == "" || strings.Contains(metadata.GetName(), chosen.name)) &&
			(chosen.namespace == "" || metadata.GetNamespace() == chosen.namespace) {
			kept = append(kept, pod)
		}
	}
	answer.Items = kept
	if chosen.quiet {
		for _, pod := range kept {
			fmt.Println(pod.GetId())
		}
		return nil
	}
	return print(answer)
}

func containers(ctx context.Context, client cri.RuntimeServiceClient, chosen options) error {
	filter := &cri.ContainerFilter{Id: chosen.id, PodSandboxId: chosen.pod}
	if !chosen.all {
		filter.State = &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
	}
	answer, err := client.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
	if err != nil {
		return err
	}
	if chosen.quiet {
		for _, container := range answer.Containers {
			fmt.Println(container.GetId())
		}
		return nil
	}
	return print(answer)
}

// info prints the runtime's status and, beside it, each document the runtime adds to it.
func info(ctx context.Context, client cri.RuntimeServiceClient) error {
	answer, err := client.Status(ctx, &cri.StatusRequest{Verbose: true})
	if err != nil {
		return err
	}
	status, err := encode(answer.Status)
	if err != nil {
		return err
	}
	whole := map[string]json.RawMessage{"status": status}
	for name, text := range answer.Info {
		if document := json.RawMessage(text); json.Valid(document) {
			whole[name] = document
		} else if whole[name], err = json.Marshal(text); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(whole, "", "  ")
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	return nil
}

func encode(message proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true, Indent: "  "}.Marshal(message)
}

func print(message proto.Message) error {
	text, err := encode(message)
	if err == nil {
		fmt.Println(string(text))
	}
	return err
}
