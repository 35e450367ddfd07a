module hard

go 1.18
