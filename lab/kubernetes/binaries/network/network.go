// Package network stands in for kube-router: pods have addresses of their node, and nodes have routes to each other's pods.
//
// The plugins ptp and host-local of the distribution do the work on a node. NetworkPolicies have no effect.
package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/vishvananda/netlink"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The address at which kube-router's health is asked.
const health = "127.0.0.1:20244"

// Main configures the network of the node that NODE_NAME names until it is stopped, in the file that KUBE_ROUTER_CNI_CONF_FILE names. Flags of
// kube-router change nothing.
func Main(_ []string) {
	fmt.Println("stands in for kube-router: pods reach each other, and NetworkPolicies have no effect")
	go func() {
		fail(http.ListenAndServe(health, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}()
	config, err := rest.InClusterConfig()
	if err != nil {
		fail(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		fail(err)
	}
	for {
		if err := follow(client, os.Getenv("NODE_NAME"), os.Getenv("KUBE_ROUTER_CNI_CONF_FILE")); err != nil {
			fail(err) // the kubelet starts it again
		}
	}
}

// follow handles every node that is there, and each change of one, until the API server ends the answer.
func follow(client kubernetes.Interface, own, file string) error {
	changes, err := client.CoreV1().Nodes().Watch(context.Background(), meta.ListOptions{})
	if err != nil {
		return err
	}
	defer changes.Stop()
	for change := range changes.ResultChan() {
		node, ok := change.Object.(*core.Node)
		if !ok || node.Spec.PodCIDR == "" {
			continue
		}
		if node.Name == own {
			err = configure(file, node.Spec.PodCIDR)
		} else {
			err = route(node)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// configure writes the list of plugins for containerd, which takes it from there.
func configure(path, pods string) error {
	addresses := map[string]any{
		"type":    "host-local",
		"dataDir": "/run/cni", // a node that boots has no pod
		"ranges":  [][]map[string]string{{{"subnet": pods}}},
		"routes":  []map[string]string{{"dst": "0.0.0.0/0"}},
	}
	plugins := []map[string]any{
		{"type": "ptp", "mtu": 1500, "ipMasq": true, "ipam": addresses},
		{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
	}
	text, err := json.MarshalIndent(map[string]any{"cniVersion": "1.0.0", "name": "lab", "plugins": plugins}, "", " ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	fmt.Printf("%s: pods get addresses of %s\n", path, pods)
	return os.WriteFile(path, text, 0o644)
}

// route makes this node reach the pods of another one through its address.
func route(node *core.Node) error {
	_, pods, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil {
		return err
	}
	for _, address := range node.Status.Addresses {
		if address.Type == core.NodeInternalIP {
			return netlink.RouteReplace(&netlink.Route{Dst: pods, Gw: net.ParseIP(address.Address)})
		}
	}
	return nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
