// Command kube is every Kubernetes program of a node in one file. Which one it is depends on the name it is called by,
// so that one build and one image layer serve them all.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/restclient"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	kubectl "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"tune-nodes.test/kube/sweep"
)

// daemon returns the command of a program that runs until it is stopped, nil where there is none of that name.
func daemon(name string) *cobra.Command {
	switch name {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return controllers.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "kube-proxy":
		return proxy.NewProxyCommand()
	case "kubelet":
		return kubelet.NewKubeletCommand(context.Background())
	}
	return nil
}

func main() {
	sweep.Seldom()
	name := filepath.Base(os.Args[0])
	switch name {
	case "kubeadm":
		if err := kubeadm.Run(); err != nil { // it has said why
			os.Exit(1)
		}
	case "kubectl":
		if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
			kubectl.CheckErr(err) // prints and exits
		}
	default:
		command := daemon(name)
		if command == nil {
			fmt.Fprintf(os.Stderr, "kube: there is no program %q in this file\n", name)
			os.Exit(2)
		}
		os.Exit(cli.Run(command))
	}
}
