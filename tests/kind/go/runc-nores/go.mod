module tune-nodes.test/runc-nores

go 1.24.0
