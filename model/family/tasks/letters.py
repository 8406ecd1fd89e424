"""Spelling, reversal and counting: tasks about the letters of a quoted word."""

from random import Random
from typing import Final

from model.family.tasks.task import Extract, Kind, Task, ask

WORDS: Final = tuple(
    """
    ant arm art bag bat bed bee big box boy bus cat cow cup day dog ear egg eye fan fish fox frog fun game gold
    good hand hat hen hill ice ink iron jam jar key king kite lamp leaf lion long map milk moon mouse name nest
    net nose nut oak oil owl pan pear pen pig pin pot rain ring road rock rose salt sand sea seed ship shoe shop
    sky snow soap sock song star sun tea tent time tree van wall wind wolf wood yard year zoo apple arrow beach
    berry bird book bread brick bridge brown brush butter button cabin camel candle carrot castle chair cheese
    cherry circle clock cloud coffee cookie corner cotton cousin dance desert dinner doctor dollar door dragon
    dream eagle earth engine family farmer father feather fence finger flower forest friend garden ginger giraffe
    glass grape grass green guitar hammer heart helmet honey horse house island jacket jungle kettle kitchen
    kitten ladder lemon letter library little lizard market meadow melon mirror monkey morning mother mountain
    music needle number ocean office onion orange oven paint panda paper parrot peach pencil pepper piano picture
    pillow planet plant plate pocket potato puppy purple queen rabbit rainbow river rocket salad school scissors
    season shadow sheep shell shirt silver sister spider spoon spring square squirrel station stone story street
    sugar summer sunday table teacher temple thunder ticket tiger tomato tower train travel treasure turtle
    umbrella valley village violin water weather whale window winter wonder yellow zebra banana elephant dolphin
    hospital computer keyboard language medicine mushroom notebook pineapple blueberry butterfly crocodile
    chocolate adventure beautiful breakfast calendar children dinosaur festival football furniture hamburger
    happiness strawberry
    """.split()  # noqa: SIM905 - three hundred quotes would not read better
)
LENGTHS: Final = {1: (3, 4), 2: (5, 6), 3: (7, 9)}
SPELL = ('Spell the word "{w}".', 'How do you spell "{w}"?', 'Spell "{w}".', 'Spell "{w}" letter by letter.')
REVERSE = ('Write "{w}" backwards.', 'Reverse the word "{w}".', 'What is "{w}" backwards?', 'Spell "{w}" backwards.')
COUNT = (
    'How many times does "{c}" appear in "{w}"?',
    'How many "{c}" are in "{w}"?',
    'Count the letter "{c}" in "{w}".',
)
LENGTH = ('How many letters are in "{w}"?', 'How many letters does "{w}" have?', 'Count the letters in "{w}".')


def word(rng: Random, level: int) -> str:
    """A real word of the level's length half the time, else an invented one that reads like a word."""
    low, high = LENGTHS[level]
    if rng.random() < 0.4:
        return rng.choice([candidate for candidate in WORDS if low <= len(candidate) <= high])
    length = rng.randint(low, high)
    vowel_next, letters = rng.random() < 0.3, ""
    while len(letters) < length:
        letters += rng.choice("aeiou" if vowel_next else "bcdfghjklmnpqrstvwxyz")
        vowel_next = not vowel_next if rng.random() < 0.8 else vowel_next
    return letters


def spelling(rng: Random, level: int) -> Task:
    """A word's letters, joined by hyphens."""
    w = word(rng, level)
    value = "-".join(w)
    return ask(
        Kind.SPELLING, level, rng.choice(SPELL).format(w=w), f"It is spelled {value}.", Extract.SPELLED, value, w
    )


def reversal(rng: Random, level: int) -> Task:
    """A word from its last letter to its first."""
    w = word(rng, level)
    answer = rng.choice(('Backwards it is "{r}".', 'It is "{r}".')).format(r=w[::-1])
    return ask(Kind.REVERSAL, level, rng.choice(REVERSE).format(w=w), answer, Extract.QUOTED, w[::-1], w)


def counting(rng: Random, level: int) -> Task:
    """The length of a word, or how often one letter stands in it."""
    w = word(rng, level)
    if rng.random() < 0.4:
        question, value = rng.choice(LENGTH).format(w=w), len(w)
        answer = f"It has {value} letters."
        key = f"length:{w}"
    else:
        if rng.random() < 0.5:  # doubled letters are rare, and a count of one teaches little
            w = "".join(rng.choice((w[0], letter, letter)) for letter in w)
        c = rng.choice(w) if rng.random() < 0.9 else rng.choice("abcdefghijklmnopqrstuvwxyz")
        question, value = rng.choice(COUNT).format(c=c, w=w), w.count(c)
        answer = f"It appears {value} {'time' if value == 1 else 'times'}."
        key = f"{c}:{w}"
    return ask(Kind.COUNTING, level, question, answer, Extract.LAST_NUMBER, str(value), key)
