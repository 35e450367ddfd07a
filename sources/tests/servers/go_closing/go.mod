module closing

go 1.18
