module tune-nodes.test/pause

go 1.24.0
