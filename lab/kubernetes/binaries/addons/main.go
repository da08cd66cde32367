// addons: what stands in for the images that a cluster of own machines gets from others: its network, AMD's device plugin and labeller.
package main

import (
	"kubernetes-lab/deviceplugin"
	"kubernetes-lab/labeller"
	"kubernetes-lab/network"
	"kubernetes-lab/programs"
)

func main() {
	programs.Run(map[string]programs.Command{
		"kube-router":       programs.Plain("kube-router", network.Main),
		"device-plugin":     programs.Plain("device-plugin", deviceplugin.Main),
		"k8s-node-labeller": programs.Plain("k8s-node-labeller", labeller.Main), // by the name that AMD's has in its image
	})
}
