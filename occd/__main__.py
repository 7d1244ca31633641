from occd.cli import main

main()
