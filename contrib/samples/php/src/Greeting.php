<?php

namespace Sample;

class Greeting
{
    public static function text(): string
    {
        return getenv('GREETING') ?: 'Hello from PHP';
    }
}
