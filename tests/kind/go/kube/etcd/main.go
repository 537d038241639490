// Command etcd is the etcd server.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"

	"tune-nodes.test/kube/sweep"
)

func main() {
	sweep.Seldom()
	etcdmain.Main(os.Args)
}
