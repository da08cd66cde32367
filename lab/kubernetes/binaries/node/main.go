// node: what runs on a node beside containerd, and kubectl.
package main

import (
	"context"

	"github.com/spf13/cobra"
	kubectl "k8s.io/kubectl/pkg/cmd"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	"kubernetes-lab/deviceplugin"
	"kubernetes-lab/programs"
)

func main() {
	programs.Run(map[string]programs.Command{
		"kubelet":       func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
		"kube-proxy":    proxy.NewProxyCommand,
		"kubectl":       kubectl.NewDefaultKubectlCommand,
		"device-plugin": programs.Plain("device-plugin", deviceplugin.Main),
	})
}
