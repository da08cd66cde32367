// Package labeller stands in for AMD's node labeller: it gives a node the labels in LAB_LABELS, whatever GPUs the node has.
package labeller

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Main labels the node that DS_NODE_NAME names, and then waits until it is stopped: it is in a DaemonSet, as AMD's is.
func Main([]string) {
	if err := label(os.Getenv("DS_NODE_NAME"), os.Getenv("LAB_LABELS")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

func label(node, text string) error {
	labels := map[string]string{}
	if err := json.Unmarshal([]byte(text), &labels); err != nil {
		return fmt.Errorf("LAB_LABELS: %w", err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Patch(context.Background(), node, types.MergePatchType, patch, meta.PatchOptions{})
	return err
}
