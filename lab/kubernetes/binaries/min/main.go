// min: etcd and the API server, which is all that a test of objects needs.
package main

import (
	etcd "go.etcd.io/etcd/server/v3/etcdmain"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"kubernetes-lab/programs"
)

func main() {
	programs.Run(map[string]programs.Command{
		"etcd":           programs.Plain("etcd", etcd.Main),
		"kube-apiserver": apiserver.NewAPIServerCommand,
	})
}
