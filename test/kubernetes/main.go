// Command kubernetes is a whole Kubernetes control plane in one binary, for tests and for people who want a cluster to
// try things on: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as they are released, and a loop that
// stands in for the kubelets of a few nodes.
//
//	kubernetes [--until-stdin-closes] etcd | kube-apiserver | kube-controller-manager | kube-scheduler | kubelet-stand-in [flags]
//
// Each subcommand takes the flags of the program that it is named after. test/support/kubernetes-processes.ts starts them.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// untilStdinCloses ends the process when its standard input does, so that nothing outlives whoever started it, however
// that ended.
const untilStdinCloses = "--until-stdin-closes"

var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet-stand-in":        newKubeletCommand,
}

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == untilStdinCloses {
		args = args[1:]
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "which program: etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kubelet-stand-in")
		os.Exit(2)
	}
	if args[0] == "etcd" {
		etcdmain.Main(args)
		return
	}
	newCommand, known := programs[args[0]]
	if !known {
		fmt.Fprintf(os.Stderr, "unknown program %q\n", args[0])
		os.Exit(2)
	}
	// The commands read their flags from here.
	os.Args = args
	os.Exit(cli.Run(newCommand()))
}
