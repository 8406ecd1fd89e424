"""What the family is asked: task.py the shape, a file per group of kinds, generator.py the mix, grade.py the judge."""
